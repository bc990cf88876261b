-- Orders with payment and undo. The page is order_with_undo.md.
--
-- Start `walflow dev` in one terminal; in another, run the psql line that it prints, with `-f examples/order_with_undo.sql`.
-- It may be run again and again.

\set ON_ERROR_STOP on
set client_min_messages = warning;

create table if not exists shop_stock (item text primary key, pieces int not null check (pieces >= 0));
create table if not exists shop_orders (
  id       int generated always as identity primary key,
  item     text not null,
  quantity int not null,
  country  text not null,
  status   text not null default 'new');
create table if not exists shop_payments (id int generated always as identity, order_id int, cents int, refunds int);

insert into shop_stock values ('lamp', 40) on conflict (item) do update set pieces = excluded.pieces;

-- The carrier. It refuses one country; a step that raises fails.
create or replace function ship(p_order int, p_country text) returns text language plpgsql as $$
begin
  if p_country = 'Atlantis' then
    raise exception 'no carrier goes to %', p_country;
  end if;
  return 'parcel-' || p_order;
end $$;

-- Two orders and their workflows in one transaction. If it rolled back, nothing would be there and nothing would run.
begin;
select now() as began \gset

insert into shop_orders (item, quantity, country) values ('lamp', 2, 'Norway'), ('lamp', 3, 'Atlantis');

insert into df.instances (label, input, graph)
select 'order', to_jsonb(o),
       -- a <~ u: once a has completed, u is owed
       ($$update shop_orders set status = 'in work' where id = $input.id$$
          <~ $$update shop_orders set status = 'cancelled: ' || $error.message where id = $input.id$$)
    ~> ('update shop_stock set pieces = pieces - $input.quantity where item = $input.item'
          <~ 'update shop_stock set pieces = pieces + $input.quantity where item = $input.item')
    ~> ('insert into shop_payments (order_id, cents) values ($input.id, $input.quantity * 1999) returning id, cents' |=> 'paid'
          <~ 'insert into shop_payments (order_id, cents, refunds) values ($input.id, - $paid.cents, $paid.id)')
    ~> 'select ship($input.id, $input.country) as parcel' |=> 'shipped'
    ~> $$update shop_orders set status = 'shipped as ' || $shipped.parcel where id = $input.id$$
  from shop_orders as o
 where o.status = 'new';

commit;

-- A script may wait; an application rarely needs to.
select i.input ->> 'country' as country, df.wait_for_completion(i.id) as workflow
  from df.instances as i
 where i.label = 'order' and i.created_at = :'began'
 order by (i.input -> 'id')::int;

select i.input ->> 'country' as country, i.error ->> 'message' as error
  from df.instances as i
 where i.label = 'order' and i.created_at = :'began' and i.status = 'failed';

select o.country, o.status like 'shipped as parcel-%' as shipped, o.status = 'cancelled: no carrier goes to Atlantis' as cancelled,
       array_agg(p.cents order by p.id) as payments
  from shop_orders as o
  join shop_payments as p on p.order_id = o.id
 where o.id in (select (i.input -> 'id')::int from df.instances as i where i.label = 'order' and i.created_at = :'began')
 group by o.id
 order by o.id;

select item, pieces from shop_stock;
