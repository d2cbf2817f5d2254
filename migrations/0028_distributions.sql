-- Distributions: jobs that give codes of a book to the members of a pool.

-- What a distribution is about, for lists. Its status and its result are those of the job.
create table distribution (
  job_id uuid primary key,
  business_id uuid not null,
  pool_id uuid not null,
  book_id uuid not null,
  -- A member with fewer codes than this, and no room for one more, is reported as limited. Null until the codes are allocated.
  level int
);
create index distribution_of_business on distribution (business_id, job_id);

-- The members of the pool when the job was planned, numbered from 0 in the order of their ids. `room` is the number of codes of the
-- book that a member could still get then; null if the book has no limit.
create table distribution_member (
  job_id uuid not null,
  ordinal int not null,
  user_id text collate "C" not null,
  room int,
  constraint distribution_member_pkey primary key (job_id, ordinal)
);

-- A part of a distribution. First its codes are reserved: those at its positions, which have the job in `reserved_by`. Then it gets its
-- members and the number of codes for each. It is deleted by the chunk that assigns its codes. If the job ends before that,
-- housekeeping releases its codes, and the positions are null.
create table distribution_slice (
  job_id uuid not null,
  number int not null,
  book_id uuid not null,
  codes int not null,
  positions int[],
  ordinals int[],
  counts int[],
  constraint distribution_slice_pkey primary key (job_id, number),
  constraint distribution_slice_members check ((ordinals is null) = (counts is null))
);
create index distribution_slice_reserved on distribution_slice (job_id) where positions is not null;
create index distribution_slice_of_book on distribution_slice (book_id) where positions is not null;

-- The codes that a part gave to a member, or why it gave fewer than were allocated.
create table distribution_given (
  job_id uuid not null,
  ordinal int not null,
  slice int not null,
  given int not null,
  -- With a space between them.
  codes text not null,
  note text,
  constraint distribution_given_pkey primary key (job_id, ordinal, slice)
);
