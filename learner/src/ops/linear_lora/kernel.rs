//! The low-rank branch and its gradients on slices.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::super::buffers::{overwritten, recycle};
use super::super::frozen_weight::PackedWeight;
use super::super::gemm::{Packed, ROW_BLOCK, Start, View, multiply_block};
use super::super::storage::{extents, split_mut, tensor};

/// Columns that one task of the gradient of `a` computes.
const COLUMN_BLOCK: usize = 96;

/// Rows between two visits of those columns' sums.
const DEPTH_BLOCK: usize = 256;

#[derive(Debug, Clone)]
pub(super) struct Inputs {
    pub(super) x: FlexTensor,
    pub(super) weight: PackedWeight,
    pub(super) a: FlexTensor,
    pub(super) b: FlexTensor,
    pub(super) mask: Option<FlexTensor>,
    pub(super) scale: f32,
    pub(super) rows: Vec<usize>,
}

/// The gradients that somebody asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) x: bool,
    pub(super) a: bool,
    pub(super) b: bool,
}

/// What the backward pass needs of the forward one: nothing that only an unwanted gradient would need.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    /// Present for the gradient of `a`.
    x: Option<FlexTensor>,
    /// Present for the gradient of `b`.
    down: Option<Vec<f32>>,
    weight: PackedWeight,
    a: FlexTensor,
    b: FlexTensor,
    mask: Option<FlexTensor>,
    scale: f32,
    rows: Vec<usize>,
    wanted: Wanted,
}

/// Consecutive rows of one group.
#[derive(Debug, Clone, Copy)]
struct Block {
    group: usize,
    first: usize,
    count: usize,
}

impl Saved {
    pub(super) fn new(inputs: Inputs, down: Vec<f32>, wanted: Wanted) -> Self {
        let Inputs { x, weight, a, b, mask, scale, rows } = inputs;
        Self {
            x: wanted.a.then_some(x),
            down: wanted.b.then_some(down),
            mask: mask.filter(|_| wanted.x || wanted.a),
            weight,
            a,
            b,
            scale,
            rows,
            wanted,
        }
    }

    /// Gives the activations' memory back.
    pub(super) fn recycle(self) {
        [self.x, self.mask].into_iter().flatten().for_each(recycle);
    }
}

/// The output, and the inputs of the up projections `(x ∘ mask) A_gᵀ`, `[T, r]`.
pub(super) fn forward(inputs: &Inputs, bias: Option<&FlexTensor>) -> (FlexTensor, Vec<f32>) {
    let [tokens, d_in] = extents(&inputs.x);
    let [groups, d_out, rank] = extents(&inputs.b);
    let x = View::dense(inputs.x.storage(), tokens, d_in);
    let weight = inputs.weight.forward();
    let a = factors(&inputs.a, |group| Packed::new(group.transposed()));
    let b = factors(&inputs.b, |group| Packed::new(group.transposed()).scaled(inputs.scale));
    debug_assert_eq!((a.len(), b.len()), (groups, groups));
    let start = bias.map_or(Start::Zero, |bias| Start::Bias(bias.storage()));
    let blocks = blocks(&inputs.rows, ROW_BLOCK);
    let mut y = overwritten(tokens * d_out);
    let mut down = vec![0.0; tokens * rank];
    let rows = split_rows(&mut y, &blocks, d_out).into_par_iter().zip(split_rows(&mut down, &blocks, rank));
    rows.zip(&blocks).for_each(|((y, down), block)| {
        let x = x.row_range(block.first, block.count);
        let masked = inputs.mask.as_ref().map(|mask| block.masked(&inputs.x, mask));
        let input = masked.as_ref().map_or(x, |masked| View::dense(masked, block.count, d_in));
        multiply_block(input, &a[block.group], Start::Zero, down);
        multiply_block(View::dense(down, block.count, rank), &b[block.group], start, y);
        multiply_block(x, weight, Start::Output, y);
    });
    (tensor(y, [tokens, d_out]), down)
}

/// The gradients with respect to `x`, `a` and `b`.
pub(super) fn backward(saved: &Saved, grad: &FlexTensor) -> [Option<FlexTensor>; 3] {
    let up = (saved.wanted.x || saved.wanted.a).then(|| backward_up(saved, grad));
    let grad_x = up.as_ref().filter(|_| saved.wanted.x).map(|up| backward_x(saved, grad, up));
    let grad_a = up.as_ref().zip(saved.x.as_ref()).map(|(up, x)| backward_a(saved, x, up));
    let grad_b = saved.down.as_ref().map(|down| backward_b(saved, grad, down));
    [grad_x, grad_a, grad_b]
}

/// The gradient with respect to the up projections' inputs, `scale · grad · B_g`, `[T, r]`.
fn backward_up(saved: &Saved, grad: &FlexTensor) -> Vec<f32> {
    let [tokens, d_out] = extents(grad);
    let [_, _, rank] = extents::<3>(&saved.b);
    let grad = View::dense(grad.storage(), tokens, d_out);
    let b = factors(&saved.b, |group| Packed::new(group).scaled(saved.scale));
    let blocks = blocks(&saved.rows, ROW_BLOCK);
    let mut up = vec![0.0; tokens * rank];
    split_rows(&mut up, &blocks, rank).into_par_iter().zip(&blocks).for_each(|(up, block)| {
        multiply_block(grad.row_range(block.first, block.count), &b[block.group], Start::Zero, up);
    });
    up
}

/// `grad · W + (up · A_g) ∘ mask`.
fn backward_x(saved: &Saved, grad: &FlexTensor, up: &[f32]) -> FlexTensor {
    let [tokens, d_out] = extents(grad);
    let [_, rank, d_in] = extents(&saved.a);
    let grad = View::dense(grad.storage(), tokens, d_out);
    let up = View::dense(up, tokens, rank);
    let weight = saved.weight.backward();
    let a = factors(&saved.a, Packed::new);
    let blocks = blocks(&saved.rows, ROW_BLOCK);
    let mut grad_x = overwritten(tokens * d_in);
    split_rows(&mut grad_x, &blocks, d_in).into_par_iter().zip(&blocks).for_each(|(grad_x, block)| {
        multiply_block(up.row_range(block.first, block.count), &a[block.group], Start::Zero, grad_x);
        if let Some(mask) = &saved.mask {
            multiply_elements(grad_x, block.of(mask));
        }
        multiply_block(grad.row_range(block.first, block.count), weight, Start::Output, grad_x);
    });
    tensor(grad_x, [tokens, d_in])
}

/// `up_gᵀ · (x ∘ mask)_g`: tasks share out the columns, each sums over the rows in their order.
fn backward_a(saved: &Saved, x: &FlexTensor, up: &[f32]) -> FlexTensor {
    let [groups, rank, d_in] = extents(&saved.a);
    let mut grad_a = vec![0.0; groups * rank * d_in];
    let groups_blocks = blocks(&saved.rows, usize::MAX);
    grad_a.par_chunks_mut(rank * d_in).zip(&groups_blocks).for_each(|(grad_a, group)| {
        let columns = (0..d_in.div_ceil(COLUMN_BLOCK)).into_par_iter().map(|block| {
            let first = block * COLUMN_BLOCK;
            (first, backward_a_columns(saved, x, up, *group, first, COLUMN_BLOCK.min(d_in - first)))
        });
        for (first, values) in columns.collect::<Vec<_>>() {
            let width = values.len() / rank;
            for (row, values) in grad_a.chunks_exact_mut(d_in).zip(values.chunks_exact(width)) {
                row[first..first + width].copy_from_slice(values);
            }
        }
    });
    tensor(grad_a, [groups, rank, d_in])
}

fn backward_a_columns(saved: &Saved, x: &FlexTensor, up: &[f32], group: Block, first: usize, count: usize) -> Vec<f32> {
    let [tokens, d_in] = extents(x);
    let rank = up.len() / tokens;
    let up = View::dense(up, tokens, rank);
    let columns = View::dense(x.storage(), tokens, d_in).column_range(first, count);
    let mut sums = vec![0.0; rank * count];
    for block in group.pieces(DEPTH_BLOCK) {
        let columns = columns.row_range(block.first, block.count);
        let masked = saved.mask.as_ref().map(|mask| {
            let mask: &[f32] = mask.storage();
            let rows = columns.dense_rows().zip(mask[block.first * d_in + first..].chunks(d_in));
            rows.flat_map(|(x, mask)| x.iter().zip(mask).map(|(x, mask)| x * mask)).collect::<Vec<_>>()
        });
        let columns = masked.as_ref().map_or(columns, |masked| View::dense(masked, block.count, count));
        let up = up.row_range(block.first, block.count).transposed();
        multiply_block(up, &Packed::new(columns), Start::Output, &mut sums);
    }
    sums
}

/// `scale · grad_gᵀ · down_g`: tasks share out the rows of the result, each sums over the tokens in their order.
fn backward_b(saved: &Saved, grad: &FlexTensor, down: &[f32]) -> FlexTensor {
    let [tokens, d_out] = extents(grad);
    let [groups, _, rank] = extents(&saved.b);
    let grad = View::dense(grad.storage(), tokens, d_out);
    let down = View::dense(down, tokens, rank);
    let mut grad_b = vec![0.0; groups * d_out * rank];
    let group_blocks = blocks(&saved.rows, usize::MAX);
    grad_b.par_chunks_mut(d_out * rank).zip(&group_blocks).for_each(|(grad_b, group)| {
        let down = Packed::new(down.row_range(group.first, group.count)).scaled(saved.scale);
        let grad = grad.row_range(group.first, group.count).transposed();
        super::super::gemm::multiply(grad, &down, Start::Zero, grad_b);
    });
    tensor(grad_b, [groups, d_out, rank])
}

impl Block {
    /// The block's rows of a dense matrix.
    fn of(self, matrix: &FlexTensor) -> &[f32] {
        let [_, width] = extents::<2>(matrix);
        &matrix.storage()[self.first * width..][..self.count * width]
    }

    /// `x ∘ mask` for the block's rows.
    fn masked(self, x: &FlexTensor, mask: &FlexTensor) -> Vec<f32> {
        let mut values = self.of(x).to_vec();
        multiply_elements(&mut values, self.of(mask));
        values
    }

    /// The same rows in pieces of at most `size`.
    fn pieces(self, size: usize) -> impl Iterator<Item = Self> {
        let Self { group, first, count } = self;
        (0..count).step_by(size).map(move |start| Self { group, first: first + start, count: size.min(count - start) })
    }
}

/// The groups' rows in pieces of at most `size`; an empty group gives one empty piece when it is not cut.
fn blocks(rows: &[usize], size: usize) -> Vec<Block> {
    let mut first = 0;
    let mut blocks = Vec::with_capacity(rows.len());
    for (group, &count) in rows.iter().enumerate() {
        let whole = Block { group, first, count };
        first += count;
        if size == usize::MAX {
            blocks.push(whole);
        } else {
            blocks.extend(whole.pieces(size));
        }
    }
    blocks
}

fn split_rows<'a>(values: &'a mut [f32], blocks: &[Block], width: usize) -> Vec<&'a mut [f32]> {
    split_mut(values, blocks.iter().map(|block| block.count * width))
}

/// Each group's matrix of `[G, rows, columns]`, packed. With a group for every example they are as many as a small layer.
fn factors(factors: &FlexTensor, pack: impl Fn(View<'_>) -> Packed + Sync) -> Vec<Packed> {
    let [_, rows, columns] = extents::<3>(factors);
    let groups = factors.storage::<f32>().par_chunks_exact((rows * columns).max(1));
    groups.map(|group| pack(View::dense(group, rows, columns))).collect()
}

fn multiply_elements(values: &mut [f32], factors: &[f32]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
}
