//! A server for `WEIR_TEST_CLICKHOUSE_URL` where there is none: prints where it answers, and ends with its standard input.
#![forbid(unsafe_code)]

use std::io::Read as _;

use tests::far::Far;

fn main() {
    let far = Far::start();
    println!("{}", far.url());
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}
