-- Polling a service that is not always there. The page is polling.md.
--
-- Start `walflow dev` in one terminal; in another, run the psql line that it prints, with `-f examples/polling.sql`.
-- It may be run again and again.

\set ON_ERROR_STOP on
set client_min_messages = warning;

create table if not exists polls (job text, outcome text, at timestamptz default clock_timestamp());
create sequence if not exists poll_calls;
truncate polls;
alter sequence poll_calls restart;

-- The service. Every other call fails, the job 'report' is done at the sixth, and 'never' is never done. Calls are counted by a
-- sequence, because a failed step rolls back and a sequence does not.
create or replace function ask_service(p_job text) returns text language plpgsql as $$
declare
  v_call bigint;
begin
  if p_job = 'never' then
    return 'pending';
  end if;
  v_call := nextval('poll_calls');
  if v_call % 2 = 1 then
    raise exception 'service unavailable';
  end if;
  return case when v_call < 6 then 'pending' else 'done' end;
end $$;

select df.catch(
         df.timeout(
           df.loop(
             df.sleep(interval '200 milliseconds')
               ~> (df.retry('select ask_service($input.job) as state', 5, initial => '100 milliseconds') |=> 'answer'),
             $$select $answer.state <> 'done'$$),
           interval '3 seconds')
         ~> $$insert into polls values ($input.job, 'done')$$,
         $$insert into polls values ($input.job, 'gave up: ' || $error.code)$$)
       as poll \gset

select df.start(:'poll', label => 'poll', input => '{"job": "report"}') as report,
       df.start(:'poll', label => 'poll', input => '{"job": "never"}') as never \gset

select df.wait_for_completion(:'report') as report, df.wait_for_completion(:'never') as never;
select job, outcome from polls order by at;
select last_value as calls from poll_calls;
