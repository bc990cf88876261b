-- Approvals: a workflow waits for a person, reminds now and then, and gives up after a while.
--
-- Start `walflow dev` in one terminal; in another, run the psql line that it prints, with `-f examples/approval.sql`.
-- It may be run again and again, and takes five seconds.
--
-- Two branches race: a wait for the signal 'decision', which gives up after four seconds, and an endless loop that writes a
-- reminder every second. The wait always ends first; the loop is stopped then. Only after the race is anything
-- decided: what loses a race may have written something before it lost, so decide first and act afterwards.
--
-- A waiting workflow holds no connection and no lock, and waits through restarts of everything.

\set ON_ERROR_STOP on
set client_min_messages = warning;

drop table if exists requests, reminders;
create table requests (id int generated always as identity primary key, what text, state text default 'open', decided_by text);
create table reminders (request_id int, at timestamptz default clock_timestamp());

begin;
select now() as began \gset

insert into requests (what) values ('a new chair'), ('a new car'), ('a new planet');

insert into df.instances (label, input, graph)
select 'approval', to_jsonb(r),
       df.race(
         df.wait_for_signal('decision', 4),
         df.loop(df.sleep(1) ~> 'insert into reminders values ($input.id)')
       ) |=> 'answer'
    ~> $$update requests
            set state = case when ($answer::json ->> 'timed_out')::boolean then 'expired'
                             when ($answer::json -> 'data' ->> 'approve')::boolean then 'approved'
                             else 'rejected' end,
                decided_by = $answer::json -> 'data' ->> 'by'
          where id = $input.id$$
  from requests as r;

-- The chair is approved in the very transaction that asks for it; a signal may come before the wait begins.
insert into df.signals (instance_id, name, data)
select id, 'decision', '{"approve": true, "by": "maria"}'
  from df.instances
 where label = 'approval' and input ->> 'what' = 'a new chair' and created_at = :'began';

commit;

-- The car is rejected a little later, from wherever somebody can insert a row. Nobody answers about the planet.
select pg_sleep(2.5);
select df.signal(id, 'decision', '{"approve": false, "by": "jo"}')
  from df.instances
 where label = 'approval' and input ->> 'what' = 'a new car' and created_at = :'began';

select i.input ->> 'what' as request, df.wait_for_completion(i.id) as workflow
  from df.instances as i
 where i.label = 'approval' and i.created_at = :'began'
 order by (i.input -> 'id')::int;

select r.what, r.state, r.decided_by, count(m) > 0 as reminded
  from requests as r
  left join reminders as m on m.request_id = r.id
 group by r.id
 order by r.id;
