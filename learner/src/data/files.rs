//! Training files as clients.

/// Which rows each training file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    names: Vec<String>,
    rows: Vec<Vec<u32>>,
}

impl Files {
    /// Rows by file, from the number of every row's file.
    pub(super) fn new(names: Vec<String>, numbers: &[u32]) -> Self {
        let mut rows = vec![Vec::new(); names.len()];
        for (&file, row) in numbers.iter().zip(0..) {
            rows[file as usize].push(row);
        }
        Self { names, rows }
    }

    /// What the files are called.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Each file's rows, ascending.
    pub(super) fn rows(&self) -> &[Vec<u32>] {
        &self.rows
    }
}
