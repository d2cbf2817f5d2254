-- The next redemptions of a business by time, without their metadata. Those of other books and those outside the snapshot are marked.
--
-- $1 business, $2 only of this book if not null, $3 from this time on and $4 before this time, if not null, $5 and $6 only after this
-- time and id, $7 number of redemptions to examine, $8 epoch and $9 transactions of the snapshot.
select r.id, r.code, r.book_id, r.user_id, r.use_number, r.reference, null::jsonb as metadata, r.at, r.rolled_back_at,
       r.amount, r.discount, r.currency as "currency: StoredCurrency",
       ($2::uuid is null or r.book_id = $2)
         and case when r.epoch = $8::smallint then pg_visible_in_snapshot(r.tx, $9::text::pg_snapshot)
                  else r.epoch < $8::smallint end as "is_found!"
from redemption r
where r.business_id = $1 and r.at >= coalesce($3::timestamptz, '-infinity') and r.at < coalesce($4::timestamptz, 'infinity')
  and (r.at, r.id) > ($5::timestamptz, $6::uuid)
order by r.at, r.id
limit $7
