-- The tables of schema df. DESIGN.md §4 says what each is for; ROLES.md why keys and columns look as they do.
--
-- Naming: a row's owner is the role whose instance it is; run_as is the role under whose key a completion stands;
-- written_by is who inserted it. Roles are kept as OIDs where the engine reads them (logical decoding would send
-- a regrole as a name that may since mean someone else) and once as regrole, which pg_dump writes by name.

-- The one way to turn current_user into an OID. Plain current_user::regrole folds case and reads digits as OIDs.
create function df.me()
  returns oid
  language sql stable parallel safe
begin atomic
  select pg_catalog.quote_ident(current_user)::pg_catalog.regrole::oid;
end;
comment on function df.me() is 'api: the OID of the current role';

-- Every role whose rights the caller holds. In policies it stands in a sub-select, so that it is evaluated once a query.
create function df.my_roles()
  returns oid[]
  language sql stable parallel safe
begin atomic
  select pg_catalog.array_agg(r.oid)
    from pg_catalog.pg_roles r
   where pg_catalog.pg_has_role(r.oid, 'USAGE');
end;
comment on function df.my_roles() is 'api: the OIDs of all roles whose privileges the caller has';

-- The same as the keys of a JSON object. Policies look the owner up in it; why in this form, 0002_guards.sql says.
create function df.my_role_keys()
  returns jsonb
  language sql stable parallel safe
begin atomic
  select pg_catalog.jsonb_object_agg(r.oid::pg_catalog.int4, true)
    from pg_catalog.unnest(df.my_roles()) as r(oid);
end;
comment on function df.my_role_keys() is 'api: the OIDs of all roles whose privileges the caller has, as the keys of an object';

-- Time-ordered (index locality), 48 bits of milliseconds and 90 random bits: of a uuid's first 96, six are always the same.
create function df.new_id()
  returns text
  language sql volatile parallel safe
begin atomic
  select pg_catalog.lpad(pg_catalog.to_hex((extract(epoch from pg_catalog.clock_timestamp()) * 1000)::bigint), 12, '0')
      || pg_catalog.left(pg_catalog.replace(pg_catalog.gen_random_uuid()::text, '-', ''), 24);
end;
comment on function df.new_id() is 'api: a new instance id';

create table df.settings (
  name        text primary key,
  value       text not null,
  description text not null
);
comment on table df.settings is 'Limits and switches that the database itself enforces. Admins write, every df role reads.';
insert into df.settings (name, value, description) values
  ('result_bytes',           '1048576',  'largest result of a step, bytes of JSON'),
  ('composite_result_bytes', '16777216', 'largest array of results of a JOIN, bytes of JSON'),
  ('superuser_instances',    'off',      'may superusers start workflows (their steps run as superuser)'),
  ('loop_iterations',        '0',        'iterations after which a loop fails; 0: no limit'),
  ('list_limit',             '1000',     'largest page of df.list_instances');

create sequence df.instance_keys as bigint;
comment on sequence df.instance_keys is 'Internal keys of instances; read by a SECURITY DEFINER trigger only.';

create table df.instances (
  key          bigint not null,
  submitted_by regrole not null default df.me()::regrole,
  submitter    oid not null default df.me(),
  id           text not null default df.new_id(),
  graph        text not null,
  label        text,
  input        jsonb,
  vars         jsonb,
  database     text,
  created_xid  xid8 not null default pg_current_xact_id(),
  created_at   timestamptz not null default now(),
  session_role name not null default session_user,
  parent_key   bigint,
  parent_step  text,
  parent_id    text,
  cause        uuid,
  status       text not null default 'pending',
  quarantined  text,
  pruned       bigint,
  result       json,
  error        json,
  started_at   timestamptz,
  finished_at  timestamptz,
  updated_at   timestamptz,
  event_id     uuid not null,  -- by trigger: as a default as well it would be made twice
  recorded_at  timestamptz not null default clock_timestamp(),
  constraint instances_are_named_within_their_submitter primary key (submitted_by, id),
  constraint instance_keys_are_unique unique (key),
  constraint status_is_known check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')),
  constraint graphs_fit check (octet_length(graph) <= 16777216),
  constraint labels_fit check (octet_length(label) <= 1000),
  constraint inputs_fit check (octet_length(input::text) <= 16777216),
  constraint snapshots_of_variables_fit check (octet_length(vars::text) <= 16777216)
) with (fillfactor = 70);
comment on table df.instances is 'One row starts a workflow.';
comment on column df.instances.pruned is 'How many rows of the history of early iterations were removed; null: none.';
comment on column df.instances.cause is 'Of a child: the event_id of the row that made its parent start it.';
create index children_of on df.instances (submitted_by, parent_key) where parent_key is not null;

create table df.signals (
  owner        oid not null,
  instance_id  text not null,
  instance_key bigint,
  name         text not null,
  data         json not null default '{}',
  sent_by      oid not null default df.me(),
  folded       boolean not null default false,
  taken_by     text,
  event_id     uuid not null default gen_random_uuid(),
  recorded_at  timestamptz not null default clock_timestamp(),
  constraint signals_are_events primary key (owner, event_id),
  constraint signal_names_fit check (name <> '' and octet_length(name) <= 200),
  constraint signal_data_fits check (octet_length(data::text) <= 16777216)
) with (fillfactor = 80);
comment on table df.signals is 'One row delivers a signal to an instance.';
comment on column df.signals.taken_by is 'The step of the wait that took it; null while it is buffered.';

create table df.cancellations (
  owner        oid not null,
  instance_id  text not null,
  instance_key bigint,
  reason       text not null default 'Cancelled by user',
  sent_by      oid not null default df.me(),
  folded       boolean not null default false,
  event_id     uuid not null default gen_random_uuid(),
  recorded_at  timestamptz not null default clock_timestamp(),
  constraint cancellations_are_events primary key (owner, event_id),
  constraint reasons_fit check (octet_length(reason) <= 10000)
) with (fillfactor = 80);
comment on table df.cancellations is 'One row cancels an instance.';

create table df.releases (
  owner        oid not null,
  instance_id  text not null,
  instance_key bigint,
  reason       text not null default 'Released by user',
  sent_by      oid not null default df.me(),
  folded       boolean not null default false,
  event_id     uuid not null default gen_random_uuid(),
  recorded_at  timestamptz not null default clock_timestamp(),
  constraint releases_are_events primary key (owner, event_id),
  constraint reasons_fit check (octet_length(reason) <= 10000)
) with (fillfactor = 80);
comment on table df.releases is 'One row lets a quarantined instance go on.';

-- The primary key is "A step's effects and its completion commit together" and "One key, one outcome" in one line.
create table df.completions (
  run_as       oid not null default df.me(),
  instance_key bigint not null,
  step         text not null,
  attempt      integer not null,
  written_by   oid not null default df.me(),
  repetitions  integer not null default 0,
  outcome      text not null,
  cause        uuid,
  event_id     uuid not null default gen_random_uuid(),
  started_at   timestamptz not null default now(),
  recorded_at  timestamptz not null default clock_timestamp(),
  result       json,
  error        json,
  query        text,
  note         text,
  constraint one_key_one_outcome primary key (run_as, instance_key, step, attempt),
  constraint outcome_is_known check (outcome in ('completed', 'failed', 'cancelled')),
  constraint step_keys_fit check (octet_length(step) <= 500),
  constraint attempts_count_from_one check (attempt >= 1),
  constraint results_fit check (octet_length(result::text) <= 16777216),
  constraint errors_fit check (octet_length(error::text) <= 1048576),
  -- no trigger sets them; a table scan counts with them, in microseconds that must be a date everywhere
  constraint times_are_real check (
    started_at between '1970-01-01 00:00+00' and '2200-01-01 00:00+00'
    and recorded_at between '1970-01-01 00:00+00' and '2200-01-01 00:00+00')
);
comment on table df.completions is 'How each attempt of each step ended; the history of a workflow.';
comment on column df.completions.note is 'What a reader of the history should know, such as that the step ran at least once.';

create table df.waits (
  instance_key bigint not null,
  owner        oid not null,
  waiter_key   bigint not null,
  waiter_step  text not null,
  cause        uuid,
  folded       boolean not null default false,
  event_id     uuid not null default gen_random_uuid(),
  recorded_at  timestamptz not null default clock_timestamp(),
  constraint a_step_waits_once primary key (waiter_key, waiter_step)
) with (fillfactor = 80);
comment on table df.waits is 'Step waiter_step of instance waiter_key waits for instance instance_key, which is the owner''s.';
create index waits_for on df.waits (instance_key);

create table df.heartbeats (
  epoch       bigint not null,
  event_id    uuid not null default gen_random_uuid(),
  recorded_at timestamptz not null default clock_timestamp()
);
comment on table df.heartbeats is 'Inserted and deleted in one transaction: only its trace in the log counts.';

create table df.vars (
  owner regrole not null default df.me()::regrole,
  name  text not null,
  value text,
  constraint variables_are_named_within_their_owner primary key (owner, name),
  constraint variable_names_are_identifiers check (name ~ '^[A-Za-z_][A-Za-z0-9_]*$' and octet_length(name) <= 200),
  constraint variables_fit check (octet_length(value) <= 1048576)
);
comment on table df.vars is 'Variables; an instance takes a snapshot of its submitter''s at the INSERT.';
comment on column df.vars.value is 'NULL removes the row: nobody may DELETE, because whoever may can lock the table against all others.';

create table df.progress (
  submitted_by regrole not null,
  instance_key bigint not null,
  nodes        json not null,
  updated_at   timestamptz not null default now(),
  constraint progress_belongs_to_an_instance primary key (submitted_by, instance_key)
) with (fillfactor = 70);
comment on table df.progress is 'What live views show of an instance; as of the last checkpoint.';

create table df.epoch (
  only_row boolean primary key default true check (only_row),
  epoch    bigint not null
) with (fillfactor = 10);
comment on table df.epoch is 'Which engine may write. Compared by every step.';
insert into df.epoch (epoch) values (0);

-- lsn is comparable only within one (system_identifier, slot_generation).
create table df.checkpoint (
  only_row          boolean primary key default true check (only_row),
  epoch             bigint not null,
  lsn               pg_lsn not null default '0/0',
  system_identifier text,
  slot_name         text,
  slot_generation   bigint not null default 0,
  scanning          boolean not null default false,
  installation      uuid not null default gen_random_uuid(),
  written_at        timestamptz not null default now(),
  started_total     bigint not null default 0,
  completed_total   bigint not null default 0,
  failed_total      bigint not null default 0,
  cancelled_total   bigint not null default 0,
  executions_total  bigint not null default 0,
  events_total      bigint not null default 0,
  backlog           json not null default '[]'
) with (fillfactor = 10);
comment on table df.checkpoint is 'Up to where the log is folded into df.states, for which slot, by which engine.';
comment on column df.checkpoint.backlog is
  'Of each submitter whose starts wait for admission [submitter, after, last, count]: their keys lie above after, up to last.';
insert into df.checkpoint (epoch) values (0);

create table df.states (
  instance_key bigint primary key,
  version      smallint not null,
  state        text not null,
  wake_at      timestamptz
) with (fillfactor = 50);
comment on table df.states is 'The machine''s state of each unfinished instance as of df.checkpoint.lsn.';
comment on column df.states.wake_at is
  'Of an instance that only waits, and not for a moment: when its next timer is due (infinity: it has none); it need not be in memory before. Else null.';
create index sleepers on df.states (wake_at) where wake_at is not null;

create table df.inbox (
  instance_key bigint not null,
  lsn          pg_lsn not null,
  ordinal      integer not null,
  kind         text not null,
  row_key      text not null,
  commit_time  timestamptz not null,
  xid          xid8 not null,
  constraint events_wait_in_order primary key (instance_key, lsn, ordinal)
);
comment on table df.inbox is 'Events that could not be folded yet, in log order; the payload is read by its announced key.';
