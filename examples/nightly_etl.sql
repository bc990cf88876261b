-- A nightly load of many shops, some at a time, with a report. The page is nightly_etl.md.
--
-- Start `walflow dev` in one terminal; in another, run the psql line that it prints, with `-f examples/nightly_etl.sql`.
-- It may be run again and again.

\set ON_ERROR_STOP on
set client_min_messages = warning;

create table if not exists etl_sales (shop text, day date, amount text);    -- as the tills send it
create table if not exists etl_totals (shop text, day date, amount numeric, primary key (shop, day));
create table if not exists etl_problems (shop text, day date, problem text);
create table if not exists etl_reports (day date, shops int, amount numeric, problems int);

truncate etl_sales, etl_totals, etl_problems, etl_reports;
insert into etl_sales values
  ('Bergen', '2026-01-31', '10.50'), ('Bergen', '2026-01-31', '4.50'), ('Oslo', '2026-01-31', '100'),
  ('Tromsø', '2026-01-31', '7.25'), ('Bodø', '2026-01-31', 'twelve');

-- One night. Each shop is loaded by a step of its own, two at a time; a shop whose numbers are bad is noted and stops nobody.
select df.map(
         'select distinct shop from etl_sales where day = $input.day::date order by shop',
         df.catch(
           $$insert into etl_totals
             select shop, day, sum(amount::numeric) from etl_sales
              where shop = $item.shop and day = $input.day::date group by shop, day
                 on conflict (shop, day) do update set amount = excluded.amount$$,
           'insert into etl_problems values ($item.shop, $input.day::date, $error.message)'),
         max_parallel => 2)
    ~> $$insert into etl_reports
         select $input.day::date,
                (select count(*) from etl_totals where day = $input.day::date),
                (select sum(amount) from etl_totals where day = $input.day::date),
                (select count(*) from etl_problems where day = $input.day::date)$$
       as night \gset

-- One night now.
select df.start(:'night', label => 'one night', input => '{"day": "2026-01-31"}') as id \gset
select df.wait_for_completion(:'id') as workflow;
select day, shops, amount, problems from etl_reports;
select shop, problem from etl_problems;

-- Every night at half past two in Oslo: a loop that waits for its schedule and runs the night as a child, with its day as input.
select df.start(
  df.loop(
       df.wait_for_schedule('30 2 * * *', 'Europe/Oslo')
    ~> $$select ((now() at time zone 'Europe/Oslo')::date - 1)::text as day$$ |=> 'yesterday'
    ~> df.call_child(:'night', 'night of $yesterday.day', '{"input": {"day": "$yesterday.day"}, "on_failure": "return"}')),
  label => 'every night') as id \gset

-- It would go on for ever; this is only an example.
select df.cancel(:'id', 'only an example') like 'Instance % cancelled: only an example' as cancelled;
select df.wait_for_completion(:'id') as workflow;
