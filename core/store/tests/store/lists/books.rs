//! Lists of books, and the counts that they show.

use cuponera_domain::book::BookStatus;
use cuponera_domain::id::BookId;
use cuponera_store::MAX_BOOKS_EXAMINED;
use cuponera_testkit::World;
use sqlx::{query, query_scalar};

use super::{LIMIT, follow, touched, world_with_old_statistics};

const BOOK_BLOCKS: &str = "select (heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                           from pg_statio_user_tables where relname = 'coupon_book'";
const DELTA_BLOCKS: &str = "select (heap_blks_read + heap_blks_hit)::bigint
                            from pg_statio_user_tables where relname = 'book_delta'";

/// Inserts books with plain SQL, the newest last.
async fn plant_books(world: &World, name: &str, count: i64) {
    query(
        "insert into coupon_book (id, business_id, name)
         select ('00000000-0000-7000-8000-' || lpad(to_hex(n + (select count(*) from coupon_book)), 12, '0'))::uuid,
                $1, $2 || n from generate_series(1, $3) n",
    )
    .bind(world.business.0)
    .bind(name)
    .bind(count)
    .execute(world.pool())
    .await
    .unwrap();
}

/// 30,000 books have about 400 blocks, without their indexes. A page examines 1,000 books, and the total counts at most
/// 10,000.
#[tokio::test]
async fn a_page_of_books_touches_few_blocks_whatever_the_filter() {
    let mut world = world_with_old_statistics(async |_| {}).await;
    plant_books(&world, "rare", 1).await;
    plant_books(&world, "book", 30_000).await;
    for status in [None, Some(BookStatus::Active), Some(BookStatus::Closed), Some(BookStatus::Draft)] {
        for part in [None, Some("rare"), Some("nothing")] {
            let blocks = touched(&mut world, BOOK_BLOCKS, async |world| {
                let page = world.store().list_books(world.business, status, part, None, LIMIT).await.unwrap();
                assert_eq!(page.total, None, "more books than the limit were counted");
            })
            .await;
            assert!(blocks < 350, "{status:?} {part:?} read {blocks} blocks");
        }
    }
}

#[tokio::test]
async fn cursors_lead_to_each_book_once_with_the_total_where_it_is_cheap() {
    let world = World::new().await;
    plant_books(&world, "rare", 12).await;
    plant_books(&world, "book", 2 * MAX_BOOKS_EXAMINED).await;
    let page_after = async |cursor: Option<String>| {
        let after = cursor.map(|id| id.parse::<BookId>().unwrap());
        let page = world.store().list_books(world.business, None, Some("rare"), after, LIMIT).await?;
        assert_eq!(page.total, Some(12));
        Ok(page)
    };
    let (found, pages) = follow(page_after, async |_| {}).await;
    let names: Vec<_> = found.into_iter().map(|book| book.rules.name).collect();
    assert_eq!(names, (1..=12).rev().map(|n| format!("rare{n}")).collect::<Vec<_>>());
    assert!(pages > 3, "{pages} pages");
}

#[tokio::test]
async fn a_page_of_books_reads_the_deltas_of_its_books_once_and_no_others() {
    const BOOKS: i64 = 100;
    let mut world = world_with_old_statistics(async |_| {}).await;
    plant_books(&world, "book", BOOKS).await;
    query(
        "insert into book_delta (book_id, available)
         select id, 1 from coupon_book cross join generate_series(1, 500) order by id",
    )
    .execute(world.pool())
    .await
    .unwrap();
    let size = "select pg_relation_size('book_delta') / current_setting('block_size')::int";
    let size: i64 = query_scalar(size).fetch_one(world.pool()).await.unwrap();
    for books in [1, BOOKS] {
        let blocks = touched(&mut world, DELTA_BLOCKS, async |world| {
            let limit = u32::try_from(books).unwrap();
            let page = world.store().list_books(world.business, None, None, None, limit).await.unwrap();
            assert!(page.items.iter().all(|book| book.counts.available == 500));
        })
        .await;
        // A block with the deltas of two books is read for each of them. The page reads one book more than it returns.
        let most = (books + 1) * (size / BOOKS + 2);
        assert!(blocks <= most, "{books} books read {blocks} blocks of {size}");
    }
}
