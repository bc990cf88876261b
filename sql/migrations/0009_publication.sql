-- What the engine reads from the log: what users and executors insert and the fold needs, and no more.
-- Only inserts, so that the engine's own updates never come back. df.instances.label is there for {sys_label}.
create publication walflow for table
  df.instances (key, submitter, id, graph, label, input, vars, database, parent_key, parent_step, status, event_id, recorded_at),
  df.signals (owner, instance_id, instance_key, name, data, sent_by, event_id, recorded_at),
  df.cancellations (owner, instance_id, instance_key, reason, sent_by, event_id, recorded_at),
  df.releases (owner, instance_id, instance_key, reason, sent_by, event_id, recorded_at),
  df.completions (run_as, instance_key, step, attempt, written_by, outcome, cause, event_id, recorded_at, result, error),
  df.waits (instance_key, owner, waiter_key, waiter_step, event_id, recorded_at),
  df.heartbeats (epoch, event_id, recorded_at)
  with (publish = 'insert');
