//! What a handful of measured values say.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

/// One measured quantity: a line of the table, or of the JSON output.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    name: String,
    unit: &'static str,
    runs: usize,
    min: f64,
    median: f64,
    p95: f64,
    max: f64,
    /// What was promised, when something was.
    #[serde(flatten)]
    limits: Limits,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    median_limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_limit: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_limit: Option<f64>,
}

impl Summary {
    /// Summarises the values of all runs. Median and 95th percentile are values that were measured (nearest rank), not
    /// interpolated ones.
    /// # Errors
    /// There is no value, or one is not a number.
    pub(super) fn of(name: impl Into<String>, unit: &'static str, values: &[f64]) -> Result<Summary> {
        let name = name.into();
        ensure!(!values.is_empty(), "{name}: nothing was measured");
        ensure!(values.iter().all(|value| value.is_finite()), "{name}: not all of {values:?} are numbers");
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent| rounded(nearest_rank(&sorted, percent));
        let (min, median, p95, max) = (rank(0), rank(50), rank(95), rank(100));
        Ok(Summary { name, unit, runs: sorted.len(), min, median, p95, max, limits: Limits::default() })
    }

    /// The worst value may be `limit` at most.
    pub(super) fn at_most(mut self, limit: f64) -> Summary {
        self.limits.max_limit = Some(limit);
        self
    }

    /// The median may be `limit` at most.
    pub(super) fn median_at_most(mut self, limit: f64) -> Summary {
        self.limits.median_limit = Some(limit);
        self
    }

    /// No value may be less than `limit`.
    pub(super) fn at_least(mut self, limit: f64) -> Summary {
        self.limits.min_limit = Some(limit);
        self
    }

    /// Every value must be this one.
    pub(super) fn exactly(mut self, value: f64) -> Summary {
        self.limits.expected = Some(value);
        self
    }

    /// Each limit in words, and whether it was kept.
    fn verdicts(&self) -> Vec<(bool, String)> {
        let Limits { expected, median_limit, max_limit, min_limit } = self.limits;
        let words = |which, have: f64, limit: f64| {
            format!("{} {which} {} {}, limit {}", self.name, number(have), self.unit, number(limit))
        };
        let at_most = |which, have: f64, limit: f64| (have <= limit, words(which, have, limit));
        let expected = expected.map(|expected| {
            let range = format!("{} to {}", number(self.min), number(self.max));
            let have = if self.min == self.max { number(self.min) } else { range };
            let words = format!("{} {have} {}, expected {}", self.name, self.unit, number(expected));
            (self.min == expected && self.max == expected, words)
        });
        let median = median_limit.map(|limit| at_most("median", self.median, limit));
        let worst = max_limit.map(|limit| at_most("worst", self.max, limit));
        let least = min_limit.map(|limit| (self.min >= limit, words("least", self.min, limit)));
        [expected, median, worst, least].into_iter().flatten().collect()
    }
}

/// The smallest value that is not exceeded by `percent` of all values. `sorted` has at least one.
fn nearest_rank(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted[rank.saturating_sub(1)]
}

/// Milliseconds, for a figure.
pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// To a thousandth of its unit: more digits would only pretend.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// What was measured, and how, for people or for programs.
pub(super) struct Report {
    /// What, where: the table's heading.
    pub(super) title: String,
    /// The figures.
    pub(super) figures: Vec<Summary>,
    /// How they were made: sentences.
    pub(super) method: Vec<String>,
}

impl Report {
    /// One JSON object a line: `name, unit, runs, min, median, p95, max`.
    pub(super) fn json_lines(&self) -> Result<String> {
        let lines: Result<Vec<String>, _> = self.figures.iter().map(serde_json::to_string).collect();
        Ok(lines?.join("\n"))
    }

    /// Leaves the figures without anything to hold them against.
    pub(super) fn forget_limits(&mut self) {
        self.figures.iter_mut().for_each(|figure| figure.limits = Limits::default());
    }

    /// Whether every figure is within its limits.
    pub(super) fn is_kept(&self) -> bool {
        self.verdicts().iter().all(|(kept, _)| *kept)
    }

    fn verdicts(&self) -> Vec<(bool, String)> {
        self.figures.iter().flat_map(Summary::verdicts).collect()
    }

    /// An aligned table with a heading, and how the figures were made.
    pub(super) fn table(&self) -> String {
        let head = ["", "unit", "runs", "min", "median", "p95", "max"].map(str::to_owned);
        let rows: Vec<[String; 7]> = std::iter::once(head).chain(self.figures.iter().map(cells)).collect();
        let mut widths = [0; 7];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.len());
            }
        }
        let mut text = format!("{}\n", self.title);
        for row in &rows {
            let cells = row.iter().zip(widths).enumerate();
            // Words to the left, numbers to the right.
            let cells = cells.map(|(i, (cell, width))| match i {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            text += &format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        text += &self.method.iter().map(|sentence| format!("  {sentence}\n")).collect::<String>();
        for (kept, words) in self.verdicts() {
            text += &format!("  {}  {words}\n", if kept { "kept    " } else { "EXCEEDED" });
        }
        text
    }
}

fn cells(figure: &Summary) -> [String; 7] {
    let Summary { name, unit, runs, min, median, p95, max, limits: _ } = figure;
    let [min, median, p95, max] = [min, median, p95, max].map(|value| number(*value));
    [name.clone(), (*unit).to_owned(), runs.to_string(), min, median, p95, max]
}

/// Few digits: `0.42`, `21.30`, `5312`.
fn number(value: f64) -> String {
    if value == value.trunc() || value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values_of_the_nearest_rank() {
        let to = |n: u32| (1..=n).map(f64::from).collect::<Vec<_>>();
        for (values, [min, median, p95, max]) in [
            (vec![7.0], [7.0, 7.0, 7.0, 7.0]),
            (vec![2.0, 1.0], [1.0, 1.0, 2.0, 2.0]),
            (vec![3.0, 1.0, 2.0], [1.0, 2.0, 3.0, 3.0]),
            (to(20), [1.0, 10.0, 19.0, 20.0]),
            (to(21), [1.0, 11.0, 20.0, 21.0]),
            (to(100), [1.0, 50.0, 95.0, 100.0]),
        ] {
            let runs = values.len();
            let limits = Limits::default();
            let expected = Summary { name: "x".to_owned(), unit: "s", runs, min, median, p95, max, limits };
            assert_eq!(Summary::of("x", "s", &values).unwrap(), expected, "{values:?}");
        }
    }

    #[test]
    fn nothing_measured_is_no_figure() {
        assert_eq!(Summary::of("burst_s", "s", &[]).unwrap_err().to_string(), "burst_s: nothing was measured");
        assert!(Summary::of("burst_s", "s", &[1.0, f64::NAN]).is_err());
    }

    fn report() -> Report {
        let figures = vec![
            Summary::of("time_to_address_ms", "ms", &[21.3004, 7.0, 53.25]).unwrap(),
            Summary::of("burst_s", "s", &[1234.5678]).unwrap(),
        ];
        Report { title: "latency".into(), figures, method: vec!["by watch".into()] }
    }

    #[test]
    fn json_is_one_object_a_line_with_the_agreed_fields() {
        assert_eq!(
            report().json_lines().unwrap(),
            concat!(
                r#"{"name":"time_to_address_ms","unit":"ms","runs":3,"min":7.0,"median":21.3,"p95":53.25,"max":53.25}"#,
                "\n",
                r#"{"name":"burst_s","unit":"s","runs":1,"min":1234.568,"median":1234.568,"p95":1234.568,"max":1234.568}"#
            )
        );
    }

    #[test]
    fn limits_are_kept_up_to_the_limit_itself_and_said() {
        let of = |values: &[f64]| Summary::of("gap_ms", "ms", values).unwrap();
        let judged = |figure| Report { title: "t".into(), figures: vec![figure], method: vec![] };
        for (figure, kept) in [
            (of(&[1.0, 9.0]), true),
            (of(&[1.0, 9.0]).at_most(9.0), true),
            (of(&[1.0, 9.0]).at_most(8.9), false),
            (of(&[1.0, 2.0, 9.0]).median_at_most(2.0), true),
            (of(&[1.0, 2.0, 9.0]).median_at_most(1.0), false),
            (of(&[1.0, 1.0]).exactly(1.0), true),
            (of(&[0.0, 1.0]).exactly(1.0), false),
            (of(&[1.0, 2.0]).exactly(1.0), false),
            (of(&[1.0, 2.0]).at_least(1.0), true),
            (of(&[0.0, 2.0]).at_least(1.0), false),
        ] {
            assert_eq!(judged(figure.clone()).is_kept(), kept, "{figure:?}");
        }
        let report = judged(of(&[1.0, 9.0]).median_at_most(1.0).at_most(8.0));
        let table = report.table();
        assert!(table.contains("\n  kept      gap_ms median 1 ms, limit 1\n"), "{table}");
        assert!(table.ends_with("\n  EXCEEDED  gap_ms worst 9 ms, limit 8\n"), "{table}");
        let counted = judged(of(&[1.0, 2.0]).exactly(1.0)).table();
        assert!(counted.ends_with("\n  EXCEEDED  gap_ms 1 to 2 ms, expected 1\n"), "{counted}");
        assert!(report.json_lines().unwrap().ends_with(r#""max":9.0,"median_limit":1.0,"max_limit":8.0}"#));
    }

    #[test]
    fn the_table_is_aligned() {
        assert_eq!(
            report().table(),
            "latency\n\
             \x20                     unit  runs   min  median    p95    max\n\
             \x20 time_to_address_ms  ms       3     7   21.30  53.25  53.25\n\
             \x20 burst_s             s        1  1235    1235   1235   1235\n\
             \x20 by watch\n"
        );
    }
}
