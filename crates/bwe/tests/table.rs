//! The committed table equals the results of the scenarios.

use std::time::Instant;

use rialto_bwe::sim::table;

#[test]
fn the_table_is_as_committed() {
    let table = table::print(Instant::now());
    assert!(
        table == include_str!("../table.txt"),
        "read the difference, then `make bwe-table > crates/bwe/table.txt`:\n{table}"
    );
}
