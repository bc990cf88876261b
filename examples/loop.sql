-- Loops: a queue is worked off in batches, and a total is carried from one iteration to the next.
--
-- Start `walflow dev` in one terminal; in another, run the psql line that it prints, with `-f examples/loop.sql`.
-- It may be run again and again.
--
-- What stands before a loop runs once, what stands after it runs once, and a killed engine goes on in the iteration in which
-- it was. Results named inside a loop are still there in the next iteration and after the loop.

\set ON_ERROR_STOP on
set client_min_messages = warning;

drop table if exists queue, worked, reports;
create table queue (id int);
create table worked (id int);
create table reports (batches int, rows int);
insert into queue select generate_series(1, 1050);

-- `loop(body, condition)` runs the body, asks the condition, and goes on while it is true.
select df.start(
     'select 0 as batches, 0 as rows' |=> 'so_far'
  ~> df.loop(
       $$with batch as (delete from queue where id in (select id from queue order by id limit 100) returning id),
              kept as (insert into worked select id from batch returning id)
         select count(*) as rows from kept$$ |=> 'batch'
       ~> 'select $so_far.batches + 1 as batches, $so_far.rows + $batch.rows as rows' |=> 'so_far',
       'select exists (select from queue)')
  ~> 'insert into reports values ($so_far.batches, $so_far.rows)',
  label => 'batches'
) as id \gset

select df.wait_for_completion(:'id') as workflow;
select batches, rows, (select count(*) from worked) as worked from reports;

-- `@>` loops until something breaks out; `every` would set the distance between two starts. Of a thousand tries at most:
select df.start(
  df.loop(
    'select coalesce(max(id), 0) + 1 as id from queue' |=> 'next'
    ~> 'insert into queue values ($next)'
    ~> df.if('select $next >= 5', df.break('{"reached": $next}'), 'select $next'),
    every => interval '0')
) as id \gset

select df.wait_for_completion(:'id') as workflow;
select df.result(:'id') as result;
