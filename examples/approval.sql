-- Approvals with reminders and escalation. The page is approval.md.
--
-- Start `walflow dev` in one terminal; in another, run the psql line that it prints, with `-f examples/approval.sql`.
-- It may be run again and again, and takes five seconds.

\set ON_ERROR_STOP on
set client_min_messages = warning;

create table if not exists requests (
  id         int generated always as identity primary key,
  what       text not null,
  state      text not null default 'open',
  decided_by text);
create table if not exists request_log (request_id int, what text, at timestamptz default clock_timestamp());

begin;
select now() as began \gset

insert into requests (what) values ('a new chair'), ('a new car'), ('a new house'), ('a new planet');

insert into df.instances (label, input, graph)
select 'approval', to_jsonb(r),
       -- the clerk has three seconds and is reminded every second
       df.race(
         df.wait_for_signal('clerk', 3),
         df.loop(df.sleep(1) ~> $$insert into request_log values ($input.id, 'reminded')$$)
       ) |=> 'answer'
    ~> df.if(
         $$select ($answer::json ->> 'timed_out')::boolean$$,
         -- nobody answered: it goes to the boss, who has one more second
         $$insert into request_log values ($input.id, 'escalated')$$ ~> (df.wait_for_signal('boss', 1) |=> 'answer'),
         'select 1')
    ~> $$update requests
            set state = case when ($answer::json ->> 'timed_out')::boolean then 'expired'
                             when ($answer::json -> 'data' ->> 'approve')::boolean then 'approved'
                             else 'rejected' end,
                decided_by = $answer::json -> 'data' ->> 'by'
          where id = $input.id$$
  from requests as r
 where r.state = 'open';

-- The chair is approved in the very transaction that asks for it; the boss, asked or not, has already agreed to the house.
-- A signal may come before the wait begins.
insert into df.signals (instance_id, name, data)
select i.id, s.name, s.data
  from df.instances as i
  join (values ('a new chair', 'clerk', '{"approve": true, "by": "maria"}'::json),
               ('a new house', 'boss', '{"approve": true, "by": "the boss"}')) as s (what, name, data)
    on i.input ->> 'what' = s.what
 where i.label = 'approval' and i.created_at = :'began';

commit;

-- The car is rejected a little later, from wherever somebody can insert a row. Nobody answers about the planet.
select pg_sleep(1.5);
select df.signal(id, 'clerk', '{"approve": false, "by": "jo"}')
  from df.instances
 where label = 'approval' and input ->> 'what' = 'a new car' and created_at = :'began';

select i.input ->> 'what' as request, df.wait_for_completion(i.id) as workflow
  from df.instances as i
 where i.label = 'approval' and i.created_at = :'began'
 order by (i.input -> 'id')::int;

select r.what, r.state, r.decided_by,
       exists (select from request_log as l where l.request_id = r.id and l.what = 'reminded') as reminded,
       exists (select from request_log as l where l.request_id = r.id and l.what = 'escalated') as escalated
  from requests as r
 where r.id in (select (i.input -> 'id')::int from df.instances as i where i.label = 'approval' and i.created_at = :'began')
 order by r.id;
