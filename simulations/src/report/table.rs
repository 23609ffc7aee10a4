//! Aligned columns for a terminal: spaces only, no colours, split into blocks where a line would be too long.

use super::format::push;

/// A line of a terminal that nobody has widened is at least this long.
pub(super) const WIDTH: usize = 100;

/// A column of figures, set flush right.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// Title over this column and its neighbours of the same group.
    pub(super) group: String,
    /// Its own title, in two lines.
    pub(super) head: [String; 2],
    /// One cell for each row.
    pub(super) cells: Vec<String>,
}

impl Column {
    /// A column.
    pub(super) fn new(group: &str, head: [&str; 2], cells: Vec<String>) -> Self {
        Self { group: group.to_owned(), head: head.map(str::to_owned), cells }
    }

    fn width(&self) -> usize {
        self.head.iter().chain(&self.cells).map(|cell| length(cell)).max().unwrap_or(0)
    }
}

/// A table: named rows, columns in groups that stay together.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Title over the names.
    pub(super) title: String,
    /// The rows' names.
    pub(super) names: Vec<String>,
    /// An empty line follows this many rows.
    pub(super) apart: usize,
    /// The columns.
    pub(super) columns: Vec<Column>,
}

impl Table {
    /// The text, no line longer than [`WIDTH`] unless a single group is; empty columns are left out.
    pub(super) fn render(&self) -> String {
        let first = self.names.iter().chain([&self.title]).map(|name| length(name)).max().unwrap_or(0);
        let mut blocks: Vec<Vec<&[Column]>> = Vec::new();
        let mut used = WIDTH;
        for group in self.columns.chunk_by(|left, right| left.group == right.group) {
            let width = 1 + group_width(group);
            if used + width > WIDTH || blocks.is_empty() {
                blocks.push(Vec::new());
                used = first;
            }
            used += width;
            // Just pushed, if there was none.
            if let Some(block) = blocks.last_mut() {
                block.push(group);
            }
        }
        let texts: Vec<String> = blocks.iter().map(|block| self.block(first, block)).collect();
        texts.join("\n")
    }

    fn block(&self, first: usize, groups: &[&[Column]]) -> String {
        let mut text = String::new();
        let columns: Vec<&Column> = groups.iter().copied().flatten().collect();
        if groups.iter().any(|group| !group[0].group.is_empty()) {
            let mut line = " ".repeat(first);
            for group in groups {
                let width = group_width(group);
                push(&mut line, format_args!(" {:^width$}", group[0].group));
            }
            end(&mut text, &line);
        }
        for (index, title) in ["", self.title.as_str()].into_iter().enumerate() {
            if columns.iter().all(|column| column.head[index].is_empty()) && title.is_empty() {
                continue;
            }
            line(&mut text, first, title, groups, |column| &column.head[index]);
        }
        for (row, name) in self.names.iter().enumerate() {
            if row == self.apart && row > 0 {
                text.push('\n');
            }
            line(&mut text, first, name, groups, |column| &column.cells[row]);
        }
        text
    }
}

/// Two spaces before a column, one more before a group and room for the group's title.
fn group_width(group: &[Column]) -> usize {
    let columns: usize = group.iter().map(|column| 2 + column.width()).sum();
    columns.max(2 + length(&group[0].group))
}

fn line(text: &mut String, first: usize, name: &str, groups: &[&[Column]], cell: impl Fn(&Column) -> &String) {
    let mut line = format!("{name:<first$}");
    for group in groups {
        let columns: usize = group.iter().map(|column| 2 + column.width()).sum();
        line += &" ".repeat(1 + group_width(group) - columns);
        for column in *group {
            let width = column.width();
            push(&mut line, format_args!("  {:>width$}", cell(column)));
        }
    }
    end(text, &line);
}

fn end(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(groups: usize) -> Table {
        let cells = || vec!["0.807 ± 0.012".to_owned(), "-".to_owned()];
        let columns = (0..groups).flat_map(|group| {
            let group = format!("group {group}");
            [Column::new(&group, ["", "global"], cells()), Column::new(&group, ["personal", "own"], cells())]
        });
        let names = vec!["fedavg".to_owned(), "lora-fair".to_owned()];
        Table { title: "row".to_owned(), names, apart: 1, columns: columns.collect() }
    }

    #[test]
    fn columns_are_aligned_under_their_heads() {
        let expected = "                       group 0
                               personal
row                 global          own
fedavg       0.807 ± 0.012  0.807 ± 0.012

lora-fair                -              -
";
        let text = table(1).render();
        let ends = |line: &str| line.chars().count();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.iter().filter(|line| ends(line) == ends(lines[3])).count(), 4, "flush right:\n{text}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&text), words(expected));
    }

    #[test]
    fn what_does_not_fit_on_a_line_becomes_another_block_with_the_names_again() {
        let text = table(4).render();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.matches("lora-fair").count(), 2, "{text}");
    }
}
