-- A plan that needs a scan which its function forbids has a forbidding cost, for which a server with JIT compiles it: half a
-- second for a page of five rows. What the engine alone calls needs nothing here: its connections compile no plan at all.
alter function df.page_of_instances(text, text, timestamptz, text, integer) set jit = off;
