-- The rejected rows of a job after a given row, in the order of chunks and lines. A page ends with the row that reaches
-- the bound in bytes. The length of a row is known without reading it.
--
-- $1 job, $2 chunk and $3 line of the row before the page, $4 maximum number of rows, $5 the bound in bytes.
select chunk as "chunk!", line as "line!", code as "code!", reason as "reason!", detail as "detail!", row as "row!"
from (
  select r.*, sum(r.bytes) over (order by r.chunk, r.line) - r.bytes as bytes_before
  from (select chunk, line, code, reason, detail, row, octet_length(code) + octet_length(row) as bytes from import_rejection
        where job_id = $1 and (chunk, line) > ($2, $3) order by chunk, line limit $4) r
) page
where bytes_before < $5
order by chunk, line
