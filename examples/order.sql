-- Orders: the business row and its workflow are written in one transaction.
--
-- Start `walflow dev` in one terminal; in another, run the psql line that it prints, with `-f examples/order.sql`.
-- It may be run again and again.
--
-- The workflow takes the goods from the stock. If there were enough, it charges the customer and writes the packing slip
-- at the same time, and ships; if not, the order waits for goods. Each step is a transaction of its own, with the rights of
-- whoever inserted the workflow, and happens exactly once.

\set ON_ERROR_STOP on
set client_min_messages = warning;

drop table if exists stock, orders, payments, slips;
create table stock (item text primary key, pieces int not null check (pieces >= 0));
create table orders (id int generated always as identity primary key, item text, quantity int, status text default 'new');
create table payments (order_id int, cents int);
create table slips (order_id int, text text);
insert into stock values ('lamp', 40);

-- Two orders and their workflows. If this transaction rolled back, nothing would be there and nothing would run.
begin;
select now() as began \gset

insert into orders (item, quantity) values ('lamp', 2), ('lamp', 50);

insert into df.instances (label, input, graph)
select 'order', to_jsonb(o),
       $$update stock set pieces = pieces - $input.quantity
          where item = $input.item and pieces >= $input.quantity
         returning pieces$$ |=> 'taken'
    ~> df.if_rows('taken',
         (   'insert into payments values ($input.id, $input.quantity * 1999)'
           & $$insert into slips values ($input.id, 'pack ' || $input.quantity || ' x ' || $input.item)$$)
         ~> $$update orders set status = 'shipped' where id = $input.id$$,
         $$update orders set status = 'waiting for goods' where id = $input.id$$)
  from orders as o;

commit;

-- A script may wait; an application rarely needs to.
select i.input -> 'id' as "order", df.wait_for_completion(i.id) as workflow
  from df.instances as i
 where i.label = 'order' and i.created_at = :'began'
 order by 1;

select o.id, o.item, o.quantity, o.status, p.cents, s.text as slip
  from orders as o
  left join payments as p on p.order_id = o.id
  left join slips as s on s.order_id = o.id
 order by o.id;
