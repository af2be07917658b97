//! Questions about stored traffic: typed values, compiled to SQL with bound parameters, asked within limits.

use serde::{Deserialize, Serialize};

pub mod ask;
pub mod compile;
mod coverage;
pub mod dimension;
pub mod fault;
pub mod filter;
pub mod level;
pub mod lexer;
pub mod names;
pub mod parser;
pub mod question;
pub mod ranking;
pub mod records;
pub mod value;
pub mod view;
pub mod volume;
pub mod window;

/// How large a filter may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Octets of its text.
    pub filter_octets_max: usize,
    /// Parentheses and `not` within each other.
    pub filter_depth_max: usize,
    /// Comparisons.
    pub filter_terms_max: usize,
    /// Values of all lists.
    pub filter_values_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Config::default().bounds()
    }
}

/// `[api.query]`: what one question about stored traffic may cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seconds that a query may run.
    pub execution_seconds_max: u64,
    /// Seconds that a page of bills may take, which are several queries.
    pub billing_seconds_max: u64,
    /// Octets of memory that a query may use; groups beyond half of it go to disk.
    pub memory_octets_max: u64,
    /// Rows that a query may read.
    pub rows_read_max: u64,
    /// Rows that a query may answer with.
    pub rows_result_max: u64,
    /// Groups of a ranking that a thread of the engine sums at once, fewer than go to disk; of more, the largest are found by way of buckets.
    pub groups_at_once_max: u64,
    /// Queries that run at once.
    pub concurrent_max: usize,
    /// CSV and Parquet answers at once, besides those queries.
    pub export_concurrent_max: usize,
    /// How long a query or an export waits for its turn.
    pub wait_milliseconds_max: u64,
    /// Octets of an answer as the engine writes it, but of CSV and Parquet.
    pub answer_octets_max: u64,
    /// Points of a chart whose step is asked for.
    pub points_max: u64,
    /// Values of a chart: its points, of each of its groups.
    pub chart_values_max: u64,
    /// Flows of one CSV or Parquet answer.
    pub export_rows_max: u64,
    /// Octets of a filter's text.
    pub filter_octets_max: usize,
    /// Parentheses and `not` of a filter within each other.
    pub filter_depth_max: usize,
    /// Comparisons of a filter.
    pub filter_terms_max: usize,
    /// Values in the lists of a filter.
    pub filter_values_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            execution_seconds_max: 30,
            billing_seconds_max: 300,
            memory_octets_max: 536_870_912,
            rows_read_max: 10_000_000_000,
            rows_result_max: 1_000_000,
            groups_at_once_max: 100_000,
            concurrent_max: 3,
            export_concurrent_max: 2,
            wait_milliseconds_max: 5_000,
            answer_octets_max: 67_108_864,
            points_max: 10_000,
            chart_values_max: 120_000,
            export_rows_max: 1_000_000,
            filter_octets_max: 8_192,
            filter_depth_max: 32,
            filter_terms_max: 128,
            filter_values_max: 1_000,
        }
    }
}

impl Config {
    /// How large a filter may be.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            filter_octets_max: self.filter_octets_max,
            filter_depth_max: self.filter_depth_max,
            filter_terms_max: self.filter_terms_max,
            filter_values_max: self.filter_values_max,
        }
    }

    /// The keys that must not be 0, with their values.
    pub(crate) fn positive(&self) -> Vec<(&'static str, u64)> {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        vec![
            ("api.query.execution_seconds_max", self.execution_seconds_max),
            ("api.query.billing_seconds_max", self.billing_seconds_max),
            ("api.query.memory_octets_max", self.memory_octets_max),
            ("api.query.rows_read_max", self.rows_read_max),
            ("api.query.rows_result_max", self.rows_result_max),
            ("api.query.groups_at_once_max", self.groups_at_once_max),
            ("api.query.concurrent_max", count(self.concurrent_max)),
            ("api.query.export_concurrent_max", count(self.export_concurrent_max)),
            ("api.query.answer_octets_max", self.answer_octets_max),
            ("api.query.points_max", self.points_max),
            ("api.query.chart_values_max", self.chart_values_max),
            ("api.query.export_rows_max", self.export_rows_max),
            ("api.query.filter_octets_max", count(self.filter_octets_max)),
            ("api.query.filter_depth_max", count(self.filter_depth_max)),
            ("api.query.filter_terms_max", count(self.filter_terms_max)),
            ("api.query.filter_values_max", count(self.filter_values_max)),
        ]
    }
}
