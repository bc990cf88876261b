-- Onboarding of tenants, with children. The page is onboarding.md.
--
-- Start `walflow dev` in one terminal; in another, run the psql line that it prints, with `-f examples/onboarding.sql`.
-- It may be run again and again.

\set ON_ERROR_STOP on
set client_min_messages = warning;

create table if not exists tenants (
  id     int generated always as identity primary key,
  name   text not null,
  plan   text not null,
  state  text not null default 'new');
create table if not exists tenant_log (n int generated always as identity, tenant_id int, what text);

insert into tenants (name, plan) values ('acme', 'gold') returning id as tenant \gset
\set onboarding 'onboard-' :tenant

-- A graph that is used as a child reads what it needs from its own input.
select df.retry($$insert into tenant_log (tenant_id, what) values ($input.id, 'storage of ' || $input.gb || ' GB')$$, 3) as storage,
       df.wait_for_signal('confirmed', 60)
         ?> $$insert into tenant_log (tenant_id, what) values ($input.id, 'administrator confirmed')$$
         !> 'select 1/0 as nobody_confirmed' as administrator \gset

begin;

-- Both children run at the same time. The parent waits for them; nothing is held meanwhile.
insert into df.instances (id, label, input, graph)
select :'onboarding', 'onboarding', to_jsonb(t),
       $$select case $input.plan when 'gold' then 500 else 50 end as gb$$ |=> 'size'
    ~> (   df.call_child(:'storage', 'storage of $input.name', '{"input": {"id": "$input.id", "gb": "$size.gb"}}')
         & df.call_child(:'administrator', 'administrator of $input.name', '{"input": {"id": "$input.id"}}'))
    ~> $$update tenants set state = 'active' where id = $input.id returning name, state$$
  from tenants as t
 where t.id = :tenant;

-- Somebody else's workflow may wait for the whole of it, before or after it has ended.
select df.start(
     df.await_instance(:'onboarding', 60) |=> 'onboarded'
  ~> $$insert into tenant_log (tenant_id, what) values ($input.id, 'welcome mail, onboarding ' || $onboarded.status)$$,
  label => 'welcome',
  input => jsonb_build_object('id', :tenant)) as welcome \gset

commit;

-- A child is an ordinary instance, with parent_id. It is there as soon as its parent came to it.
do $$
begin
  while not exists (select from df.instances where parent_id = 'onboard-' || (select max(id) from tenants)
                       and label = 'administrator of acme') loop
    perform pg_sleep(0.05);
  end loop;
end $$;
select df.signal(id, 'confirmed', '{"by": "eve@acme.example"}')
  from df.instances
 where parent_id = :'onboarding' and label = 'administrator of acme';

select df.wait_for_completion(:'onboarding') as onboarding, df.wait_for_completion(:'welcome') as welcome;

select label, status from df.instances where parent_id = :'onboarding' order by label;
select what from tenant_log where tenant_id = :tenant order by what;
select name, state from tenants where id = :tenant;
