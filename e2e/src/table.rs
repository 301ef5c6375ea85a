//! What a benchmark found, as Markdown and as JSON.

use serde::Serialize;

/// The result of one benchmark.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What was measured.
    pub(crate) title: String,
    /// Whether all outputs that must be equal are.
    pub(crate) equal: bool,
    /// What was compared before anything was timed, and what came of it.
    pub(crate) gate: String,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What the figures mean together.
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("\n## {}\n\n{}\n\n", self.title, self.gate);
        let line = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        out += &line(&mut self.columns.iter().copied());
        out += &format!("|{}\n", "---|".repeat(self.columns.len()));
        for row in &self.rows {
            out += &line(&mut row.iter().map(String::as_str));
        }
        if !self.notes.is_empty() {
            out.push('\n');
        }
        for note in &self.notes {
            out += &format!("- {note}\n");
        }
        out
    }
}

/// The middle of some figures; of an even number the lower one. 0 for none.
pub(crate) fn middle(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// The figure below which this share of all lies.
#[cfg(feature = "bench")]
pub(super) fn percentile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an index below the length
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}

/// Seconds with as many digits as mean something.
pub(crate) fn seconds(figure: f64) -> String {
    if figure < 1.0 { format!("{:.1} ms", figure * 1e3) } else { format!("{figure:.2} s") }
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// How many times.
pub(crate) fn times(ratio: f64) -> String {
    format!("{ratio:.0}x")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        assert!((middle(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((middle(&[]) - 0.0).abs() < f64::EPSILON);
    }

    #[cfg(feature = "bench")]
    #[test]
    fn shares_of_many() {
        let hundred: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!((percentile(&hundred, 0.99) - 99.0).abs() < f64::EPSILON);
        assert!((percentile(&[7.0], 0.5) - 7.0).abs() < f64::EPSILON);
    }
}
