//! Attention of all sequences and heads in parallel.

use std::ops::Range;

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::super::buffers::overwritten;
use super::super::gemm::View;
use super::super::storage::{extents, split_mut, tensor};
use super::head::{Head, KeyGradient, Wanted};
use super::pattern::{Pattern, Sequence};

#[derive(Debug, Clone)]
pub(super) struct Inputs {
    pub(super) q: FlexTensor,
    pub(super) k: FlexTensor,
    pub(super) v: FlexTensor,
    pub(super) pattern: Pattern,
    pub(super) sequences: Vec<Sequence>,
}

/// What the backward pass needs of the forward one: not the attention weights, which it recomputes.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    pub(super) inputs: Inputs,
    /// The logarithm of each softmax's denominator: sequence by sequence, head by head, token by token.
    denominators: Vec<f32>,
}

/// Where a sequence's rows are.
#[derive(Debug, Clone)]
struct Place {
    queries: Range<usize>,
    keys: Range<usize>,
}

/// Gradients of the query heads that share a key head, and of that one.
type GroupGradient = (Vec<Vec<f32>>, KeyGradient);

impl Inputs {
    fn places(&self) -> Vec<Place> {
        let (mut queries, mut keys) = (0..0, 0..0);
        let place = |sequence: &Sequence| {
            queries = queries.end..queries.end + sequence.queries;
            let first = keys.end + sequence.gap;
            keys = first..first + sequence.keys;
            Place { queries: queries.clone(), keys: keys.clone() }
        };
        self.sequences.iter().map(place).collect()
    }

    /// One query head of a sequence.
    fn head(&self, place: &Place, head: usize) -> Head<'_> {
        let Pattern { heads, key_value_heads, mask } = self.pattern;
        let shared = head / self.pattern.group();
        let q = part(&self.q, &place.queries, head, heads);
        let [k, v] = [&self.k, &self.v].map(|x| part(x, &place.keys, shared, key_value_heads));
        Head::new(q, k, v, mask)
    }

    /// The query heads that share a key head; `logs` are their denominators.
    fn group_backward(
        &self,
        place: &Place,
        shared: usize,
        grad: &FlexTensor,
        logs: &[f32],
        wanted: Wanted,
    ) -> GroupGradient {
        let first = shared * self.pattern.group();
        let mut keys = self.head(place, first).key_gradient(wanted);
        let queries = logs.chunks_exact(place.queries.len()).enumerate().map(|(member, logs)| {
            let grad = part(grad, &place.queries, first + member, self.pattern.heads);
            self.head(place, first + member).backward(grad, logs, wanted, &mut keys)
        });
        (queries.collect(), keys)
    }
}

/// The columns of one of `heads` heads in some rows.
fn part<'a>(x: &'a FlexTensor, rows: &Range<usize>, head: usize, heads: usize) -> View<'a> {
    let [tokens, width] = extents(x);
    let view = View::dense(x.storage(), tokens, width).row_range(rows.start, rows.len());
    view.column_range(head * (width / heads), width / heads)
}

pub(super) fn forward(inputs: Inputs) -> (FlexTensor, Saved) {
    let [tokens, width] = extents(&inputs.q);
    let heads = inputs.pattern.heads;
    let mut y = overwritten(tokens * width);
    let mut denominators = vec![0.0; tokens * heads];
    let rows = split_mut(&mut y, inputs.sequences.iter().map(|sequence| sequence.queries * width));
    let logs = split_mut(&mut denominators, inputs.sequences.iter().map(|sequence| sequence.queries * heads));
    let sequences = inputs.places().into_par_iter().zip(rows).zip(logs);
    sequences.filter(|((place, _), _)| !place.queries.is_empty()).for_each(|((place, y), logs)| {
        let outputs: Vec<_> = logs
            .par_chunks_mut(place.queries.len())
            .enumerate()
            .map(|(head, logs)| inputs.head(&place, head).forward(logs))
            .collect();
        interleave(&outputs, width, y);
    });
    (tensor(y, [tokens, width]), Saved { inputs, denominators })
}

/// The gradients with respect to the wanted ones of q, k and v.
pub(super) fn backward(saved: &Saved, grad: &FlexTensor, wanted: Wanted) -> [Option<FlexTensor>; 3] {
    let inputs = &saved.inputs;
    assert!(inputs.sequences.iter().all(|sequence| sequence.gap == 0), "cached keys have no gradients");
    let (heads, group) = (inputs.pattern.heads, inputs.pattern.group());
    let shapes: [[usize; 2]; 3] = [extents(&inputs.q), extents(&inputs.k), extents(&inputs.v)];
    let [q_width, k_width, v_width] = shapes.map(|[_, width]| width);
    let buffer = |wanted: bool, [rows, width]: [usize; 2]| overwritten(if wanted { rows * width } else { 0 });
    let mut outputs = [buffer(wanted.q, shapes[0]), buffer(wanted.k, shapes[1]), buffer(wanted.v, shapes[2])];
    let [q, k, v] = &mut outputs;
    let q = pieces(q, inputs.sequences.iter().map(|sequence| sequence.queries * q_width));
    let k = pieces(k, inputs.sequences.iter().map(|sequence| sequence.keys * k_width));
    let v = pieces(v, inputs.sequences.iter().map(|sequence| sequence.keys * v_width));
    let sequences = inputs.places().into_par_iter().zip(q).zip(k).zip(v);
    sequences.filter(|(((place, _), _), _)| !place.queries.is_empty()).for_each(|(((place, q), k), v)| {
        let logs = &saved.denominators[place.queries.start * heads..place.queries.end * heads];
        let gradients: Vec<GroupGradient> = logs
            .par_chunks(place.queries.len() * group)
            .enumerate()
            .map(|(shared, logs)| inputs.group_backward(&place, shared, grad, logs, wanted))
            .collect();
        let queries: Vec<&Vec<f32>> = gradients.iter().flat_map(|(queries, _)| queries).collect();
        interleave(&queries, q_width, q);
        interleave(&gradients.iter().map(|(_, keys)| &keys.k).collect::<Vec<_>>(), k_width, k);
        interleave(&gradients.iter().map(|(_, keys)| &keys.v).collect::<Vec<_>>(), v_width, v);
    });
    let mut shapes = shapes.into_iter();
    outputs.map(|output| {
        let shape = shapes.next()?;
        (!output.is_empty()).then(|| tensor(output, shape))
    })
}

/// Cuts an output into its sequences' parts; one that is not wanted is empty, and so are its parts.
fn pieces(output: &mut [f32], sizes: impl Iterator<Item = usize>) -> Vec<&mut [f32]> {
    let wanted = !output.is_empty();
    split_mut(output, sizes.map(|size| if wanted { size } else { 0 }))
}

/// Puts the heads' dense matrices side by side into the columns of `out`.
fn interleave<H: AsRef<[f32]>>(heads: &[H], width: usize, out: &mut [f32]) {
    let head_width = width / heads.len();
    for (head, values) in heads.iter().enumerate() {
        let rows = out.chunks_exact_mut(width).zip(values.as_ref().chunks_exact(head_width));
        for (out, values) in rows {
            out[head * head_width..][..head_width].copy_from_slice(values);
        }
    }
}
