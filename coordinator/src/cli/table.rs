//! Aligned columns for people.

/// A table whose columns are as wide as their widest cell.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with a header.
    pub(super) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The table as text, or a sentence when it has no rows.
    pub(super) fn text(&self, when_empty: &str) -> String {
        if self.rows.len() == 1 {
            return when_empty.to_owned();
        }
        self.lines().join("\n")
    }

    fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cells = |column: usize| self.rows.iter().filter_map(move |row| row.get(column));
        let widths: Vec<usize> =
            (0..columns).map(|column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
        // Numbers are compared by their last digits: a column of nothing else is set to the right.
        let right: Vec<bool> = (0..columns).map(|column| cells(column).skip(1).all(|cell| is_number(cell))).collect();
        let line = |row: &Vec<String>| {
            let cell = |(column, cell): (usize, &String)| {
                let blanks = " ".repeat(widths[column] - cell.chars().count());
                if right[column] { blanks + cell } else { cell.clone() + &blanks }
            };
            row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// A number, or the sign for none.
fn is_number(cell: &str) -> bool {
    cell == "-" || cell.parse::<f64>().is_ok()
}

/// Text from the network without what would steer a terminal.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Lines of a word and what it means, the words in one column.
pub(super) fn pairs<const N: usize>(pairs: [(&str, String); N]) -> String {
    let width = pairs.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
    let line = |(word, meaning): &(&str, String)| format!("{word:<width$}  {}", printable(meaning));
    pairs.iter().filter(|(_, meaning)| !meaning.is_empty()).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_end_below_each_other() {
        let mut table = Table::new(&["client", "loss", "state"]);
        table.row(["imdb".to_owned(), "0.51".to_owned(), "accepted".to_owned()]);
        table.row(["amazon-cells".to_owned(), "-".to_owned(), "gone".to_owned()]);
        let expected = "client        loss  state\nimdb          0.51  accepted\namazon-cells     -  gone";
        assert_eq!(table.text("none"), expected);
    }

    #[test]
    fn a_table_without_rows_says_so() {
        assert_eq!(Table::new(&["a"]).text("no runs yet"), "no runs yet");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
    }
}
