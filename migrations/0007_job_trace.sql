-- The span that submitted a job, as a W3C traceparent: the spans of its chunks are under it. Null if nothing said so.

alter table job
  add column trace_parent text
  constraint job_trace_parent check (trace_parent ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$');
