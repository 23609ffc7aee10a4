//! Which keys a query sees, and which heads share them.

use std::ops::Range;

/// Heads and mask of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pattern {
    /// Query heads.
    pub(super) heads: usize,
    /// Key and value heads, a divisor of the query heads.
    pub(super) key_value_heads: usize,
    pub(super) mask: Mask,
}

/// What is hidden of a query's own sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mask {
    /// Every token sees every other.
    Nothing,
    /// A token sees itself and what precedes it, at most so many tokens.
    Later { window: usize },
}

/// Heads of a causal layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CausalHeads {
    /// Query heads.
    pub query: usize,
    /// Key and value heads, a divisor of the query heads.
    pub key_value: usize,
    /// Tokens that a token sees at most, itself included; all before it without.
    pub window: Option<usize>,
}

/// Where the keys and values of one sequence are among rows that others share, and how many of its last tokens ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedKeys {
    /// Tokens that ask, the last ones of the sequence; at least 1.
    pub queries: usize,
    /// Row of the sequence's first token.
    pub first: usize,
    /// Rows of the sequence from there on.
    pub keys: usize,
}

impl From<CausalHeads> for Pattern {
    fn from(heads: CausalHeads) -> Self {
        let mask = Mask::Later { window: heads.window.unwrap_or(usize::MAX) };
        Self { heads: heads.query, key_value_heads: heads.key_value, mask }
    }
}

/// One sequence: its queries are those of its last tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// Rows of keys before its own that no sequence here has.
    pub(super) gap: usize,
}

impl Sequence {
    /// A sequence all of whose tokens ask.
    pub(super) fn whole(length: usize) -> Self {
        Self { queries: length, keys: length, gap: 0 }
    }

    /// Sequences in a table of so many rows, in which their places ascend.
    pub(super) fn cached(places: &[CachedKeys], rows: usize) -> Vec<Self> {
        let mut end = 0;
        let mut gap = |first: usize, keys: usize| {
            assert!(end <= first && first + keys <= rows, "keys lie one behind the other in the table");
            first - std::mem::replace(&mut end, first + keys)
        };
        let sequence = |&CachedKeys { queries, first, keys }| Self { queries, keys, gap: gap(first, keys) };
        let mut sequences: Vec<Self> = places.iter().map(sequence).collect();
        // Nobody's rows at the end belong to a sequence without tokens.
        sequences.push(Self { queries: 0, keys: 0, gap: gap(rows, 0) });
        sequences
    }

    /// Position of the first query.
    fn offset(self) -> usize {
        self.keys - self.queries
    }
}

/// Consecutive queries, and the keys that any of them sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) queries: Range<usize>,
    pub(super) keys: Range<usize>,
}

impl Pattern {
    /// Query heads that share a key head.
    pub(super) fn group(self) -> usize {
        self.heads / self.key_value_heads
    }

    /// Panics where shapes do not go together.
    pub(super) fn check(self, q: [usize; 2], k: [usize; 2], v: [usize; 2], sequences: &[Sequence]) {
        let Self { heads, key_value_heads, .. } = self;
        assert!(q[1].is_multiple_of(heads), "{heads} heads do not divide the width {}", q[1]);
        assert!(heads.is_multiple_of(key_value_heads), "{key_value_heads} key heads do not divide {heads} heads");
        assert_eq!(k, v, "keys and values must have one shape");
        assert_eq!(q[1] / heads * key_value_heads, k[1], "query and key heads must have one width");
        let (queries, keys) = sequences.iter().fold((0, 0), |(q, k), s| (q + s.queries, k + s.gap + s.keys));
        assert_eq!((queries, keys), (q[0], k[0]), "sequence lengths must sum to the number of tokens");
        let fits =
            |sequence: &Sequence| sequence.queries <= sequence.keys && (sequence.queries > 0) == (sequence.keys > 0);
        assert!(sequences.iter().all(fits), "a sequence has some queries and no more than keys");
    }
}

impl Mask {
    /// The keys that a query sees.
    #[inline(always)]
    pub(super) fn visible(self, query: usize, sequence: Sequence) -> Range<usize> {
        match self {
            Self::Nothing => 0..sequence.keys,
            Self::Later { window } => {
                let end = sequence.offset() + query + 1;
                end.saturating_sub(window)..end
            }
        }
    }

    /// The queries of a sequence in blocks of at most `rows`, each with the keys that it needs; one block where every query
    /// needs all of them.
    pub(super) fn blocks(self, sequence: Sequence, rows: usize) -> impl Iterator<Item = Block> {
        let rows = if self == Self::Nothing { sequence.queries.max(1) } else { rows };
        (0..sequence.queries).step_by(rows).map(move |first| {
            let queries = first..(first + rows).min(sequence.queries);
            let keys = self.visible(first, sequence).start..self.visible(queries.end - 1, sequence).end;
            Block { queries, keys }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_sees_itself_and_what_precedes_it_as_far_as_the_window_reaches() {
        let sequence = Sequence { queries: 3, keys: 5, gap: 0 };
        let seen = |window| (0..3).map(|query| Mask::Later { window }.visible(query, sequence)).collect::<Vec<_>>();
        assert_eq!(seen(usize::MAX), [0..3, 0..4, 0..5]);
        assert_eq!(seen(2), [1..3, 2..4, 3..5]);
        assert_eq!(seen(1), [2..3, 3..4, 4..5]);
    }

    #[test]
    fn rows_between_cached_sequences_are_nobodys() {
        let places = [(2, 3, 4), (1, 7, 1)].map(|(queries, first, keys)| CachedKeys { queries, first, keys });
        let found: Vec<_> = Sequence::cached(&places, 12).iter().map(|s| (s.gap, s.queries, s.keys)).collect();
        assert_eq!(found, [(3, 2, 4), (0, 1, 1), (4, 0, 0)]);
    }

    #[test]
    fn blocks_cover_all_queries_and_only_the_keys_that_they_see() {
        let blocks = |mask: Mask| mask.blocks(Sequence::whole(5), 2).collect::<Vec<_>>();
        let block = |queries, keys| Block { queries, keys };
        assert_eq!(blocks(Mask::Nothing), [block(0..5, 0..5)]);
        let causal = Mask::Later { window: usize::MAX };
        assert_eq!(blocks(causal), [block(0..2, 0..2), block(2..4, 0..4), block(4..5, 0..5)]);
        let windowed = Mask::Later { window: 2 };
        assert_eq!(blocks(windowed), [block(0..2, 0..2), block(2..4, 1..4), block(4..5, 3..5)]);
    }
}
