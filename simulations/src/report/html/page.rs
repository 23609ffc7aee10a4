use super::{Figure, push};
use crate::report::format::escape;

const STYLE: &str = include_str!("style.css");

/// A row of a table.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: String,
    /// Its figures.
    pub(super) cells: Vec<String>,
    /// Whether a line follows it.
    pub(super) apart: bool,
}

/// A page under construction. Every text is escaped here, so that callers need not think of it.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// A page with a title.
    pub(super) fn new(title: &str) -> Self {
        let title = escape(title);
        let text = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        );
        Self { text }
    }

    /// A heading.
    pub(super) fn section(&mut self, title: &str) {
        push(&mut self.text, format_args!("<h2>{}</h2>\n", escape(title)));
    }

    /// A paragraph, of a class unless that is empty.
    pub(super) fn paragraph(&mut self, class: &str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        push(&mut self.text, format_args!("<p{class}>{}</p>\n", escape(text)));
    }

    /// Small print under a table.
    pub(super) fn notes(&mut self, notes: &[impl AsRef<str>]) {
        for note in notes {
            self.paragraph("note", note.as_ref());
        }
    }

    /// A table with named rows, for words rather than figures where it has no heads; `groups` are titles over so many
    /// columns each.
    pub(super) fn table(
        &mut self,
        title: &str,
        groups: &[(String, usize)],
        heads: &[String],
        rows: impl Iterator<Item = Row>,
    ) {
        let class = if heads.is_empty() { " class=\"plain\"" } else { "" };
        push(&mut self.text, format_args!("<div class=\"scroll\"><table{class}>\n"));
        if !groups.is_empty() {
            self.text.push_str("<tr class=\"groups\"><th></th>");
            for (group, columns) in groups {
                push(&mut self.text, format_args!("<th colspan=\"{columns}\" class=\"group\">{}</th>", escape(group)));
            }
            self.text.push_str("</tr>\n");
        }
        let starts = starts(groups);
        if !heads.is_empty() {
            push(&mut self.text, format_args!("<tr class=\"heads\"><th>{}</th>", escape(title)));
            for (column, head) in heads.iter().enumerate() {
                push(&mut self.text, format_args!("<th{}>{}</th>", first(&starts, column), escape(head)));
            }
            self.text.push_str("</tr>\n");
        }
        for row in rows {
            let class = if row.apart { " class=\"apart\"" } else { "" };
            push(&mut self.text, format_args!("<tr{class}><th>{}</th>", escape(&row.name)));
            for (column, cell) in row.cells.iter().enumerate() {
                push(&mut self.text, format_args!("<td{}>{}</td>", first(&starts, column), escape(cell)));
            }
            self.text.push_str("</tr>\n");
        }
        self.text.push_str("</table></div>\n");
    }

    /// Pictures with their captions.
    pub(super) fn figures(&mut self, figures: &[Figure]) {
        if figures.is_empty() {
            return;
        }
        self.section("Plots");
        self.text.push_str("<div class=\"figures\">\n");
        for figure in figures {
            // The picture is already markup, made of escaped text.
            push(&mut self.text, format_args!("<figure>\n{}<figcaption>{}", figure.svg, escape(&figure.caption)));
            push(
                &mut self.text,
                format_args!(" <span class=\"file\">plots/{0}.svg, plots/{0}.png</span>", figure.name),
            );
            self.text.push_str("</figcaption>\n</figure>\n");
        }
        self.text.push_str("</div>\n");
    }

    /// A text that is shown on demand, as it is.
    pub(super) fn folded(&mut self, title: &str, text: &str) {
        let (title, text) = (escape(title), escape(text));
        push(&mut self.text, format_args!("<details><summary>{title}</summary><pre>{text}</pre></details>\n"));
    }

    /// The document.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</main>\n</body>\n</html>\n");
        self.text
    }
}

/// The columns at which groups begin.
fn starts(groups: &[(String, usize)]) -> Vec<usize> {
    let start = |next: &mut usize, (_, columns): &(String, usize)| {
        let start = *next;
        *next += columns;
        Some(start)
    };
    groups.iter().scan(0, start).collect()
}

fn first(starts: &[usize], column: usize) -> &'static str {
    if starts.contains(&column) { " class=\"first\"" } else { "" }
}
