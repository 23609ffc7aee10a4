//! The distribution of one step's privacy loss, on a grid.
//!
//! The loss is `ln P(x)/Q(x)` for a release `x` of `P`. By "connecting the dots" a cell's mass goes to the two ends of the cell
//! so that both its mass under `P` and its mass under `Q` stay what they are. The curve `δ(ε)` of the result meets the true
//! one at the ends of cells and is the chord between them in `e^ε`, which is above it since the curve is convex: Doroshenko
//! et al., "Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions", arXiv 2207.04380, section 3.
//! A pair of distributions whose curve is nowhere below another's stays so under composition: Zhu, Dong and Wang, "Optimal
//! Accounting of Differential Privacy via Characteristic Function", arXiv 2106.08567, theorem 10.

use std::f64::consts::TAU;

use super::{Direction, Rounding, grid::Grid};
use crate::{
    gaussian::normal_cdf,
    history::Group,
    loss::{inverse_loss, privacy_loss},
};

/// Nodes and weights of the Gauss-Legendre rule of five points on `[-1, 1]`: exact for polynomials of degree 9.
const FIVE: [(f64, f64); 5] = [
    (-0.906_179_845_938_664, 0.236_926_885_056_189_1),
    (-0.538_469_310_105_683_1, 0.478_628_670_499_366_5),
    (0.0, 0.568_888_888_888_888_9),
    (0.538_469_310_105_683_1, 0.478_628_670_499_366_5),
    (0.906_179_845_938_664, 0.236_926_885_056_189_1),
];
/// The rule of three points, for degree 5: enough where cells are narrow, which most are.
const THREE: [(f64, f64); 3] =
    [(-0.774_596_669_241_483_4, 5.0 / 9.0), (0.0, 8.0 / 9.0), (0.774_596_669_241_483_4, 5.0 / 9.0)];

/// A discrete distribution of losses.
#[derive(Debug)]
pub(crate) struct Discrete {
    /// Indices on the grid, all different, with their masses, all positive.
    pub(crate) atoms: Vec<(f64, f64)>,
    /// Mass of an infinite loss.
    pub(crate) infinite: f64,
}

impl Discrete {
    /// Multiplies masses by `e^(rate * index)` over their sum, and gives the sum's logarithm.
    pub(crate) fn tilt(&mut self, rate: f64) -> f64 {
        for (index, mass) in &mut self.atoms {
            *mass *= (rate * *index).exp();
        }
        let sum: f64 = self.atoms.iter().map(|(_, mass)| mass).sum();
        for (_, mass) in &mut self.atoms {
            *mass /= sum;
        }
        sum.ln()
    }
}

/// One step of a group in one direction, between neighbours that it tells apart by `x ~ N(0, s²)` or `x ~ N(1, s²)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) sigma: f64,
    pub(crate) q: f64,
    pub(crate) direction: Direction,
    /// How far releases are followed, in standard deviations beyond both centres.
    pub(crate) reach: f64,
    /// `ln q/(1-q)`.
    balance: f64,
}

impl Step {
    pub(crate) fn new(group: &Group, direction: Direction, reach: f64) -> Self {
        let balance = group.q.ln() - (-group.q).ln_1p();
        Self { sigma: group.sigma, q: group.q, direction, reach, balance }
    }

    /// Puts the step on a grid of multiples of `interval`.
    ///
    /// Rounded up, releases out of reach count as an infinite loss; rounded down, they do not count.
    pub(crate) fn discretise(&self, interval: f64, rounding: Rounding) -> Discrete {
        let (from, to) = (-self.reach * self.sigma, 1.0 + self.reach * self.sigma);
        let farthest = self.loss(from).abs().max(self.loss(to).abs());
        let grid = Grid::new(interval, self.sigma, farthest, rounding);
        let mut atoms = Vec::new();
        let (mut start, mut end) = grid.cell(self.loss(from));
        let mut x = from;
        while x < to {
            // A boundary where the loss is flat has no inverse to speak of: `max` then gives an empty piece.
            let until = self.inverse(end * interval).max(x).min(to);
            let cell = Cell::new(start * interval, end * interval, self.direction, rounding);
            let masses = self.cell_masses(x, until, &cell);
            self.put(&mut atoms, (start, end), masses);
            (start, end, x) = (end, grid.next(end), until);
        }
        atoms.retain(|(_, mass)| *mass > 0.0);
        let outside = normal_cdf(-self.reach) + normal_cdf(-self.reach - 1.0 / self.sigma);
        Discrete { atoms, infinite: if rounding == Rounding::Up { outside } else { 0.0 } }
    }

    /// Adds a cell's masses to the ends of the cell, which share ends with their neighbours.
    fn put(&self, atoms: &mut Vec<(f64, f64)>, ends: (f64, f64), masses: (f64, f64)) {
        let sign = if self.direction == Direction::Remove { 1.0 } else { -1.0 };
        match atoms.last_mut() {
            Some((index, mass)) if (*index - sign * ends.0).abs() < 0.5 => *mass += masses.0,
            _ => atoms.push((sign * ends.0, masses.0)),
        }
        atoms.push((sign * ends.1, masses.1));
    }

    /// What the releases from `from` to `to` put at the two ends of their cell, in that order.
    fn cell_masses(&self, from: f64, to: f64, cell: &Cell) -> (f64, f64) {
        let (mut at_low, mut at_high) = (0.0, 0.0);
        let mut x = from;
        while x < to {
            let width = self.piece(x).min(to - x);
            let rule = if width > self.sigma / 256.0 { &FIVE[..] } else { &THREE[..] };
            for (node, weight) in rule {
                let release = x + 0.5 * width * (1.0 + node);
                let (density, share) = self.density_and_share(release, cell);
                let mass = 0.5 * width * weight * density;
                at_low += mass * (1.0 - share);
                at_high += mass * share;
            }
            if x + width <= x {
                break;
            }
            x += width;
        }
        (at_low, at_high)
    }

    /// Density of releases under the first of the two neighbours, and the part of it that goes to the cell's upper end.
    fn density_and_share(&self, x: f64, cell: &Cell) -> (f64, f64) {
        let normal = |z: f64| (-0.5 * z * z).exp() / (self.sigma * TAU.sqrt());
        let without = normal(x / self.sigma);
        // P/Q - 1.
        let u = self.q * self.log_odds(x).exp_m1();
        if cell.high > 300.0 {
            // u is about to overflow.
            let with = (1.0 - self.q) * without + self.q * normal((x - 1.0) / self.sigma);
            let density = if self.direction == Direction::Remove { with } else { without };
            return (density, cell.share((cell.low - self.loss(x)).exp_m1()));
        }
        let density = if self.direction == Direction::Remove { without * (1.0 + u) } else { without };
        (density, cell.share((cell.u_low - u) / (1.0 + u)))
    }

    /// A piece short enough for the rules at `x`: a sixteenth of a standard deviation, where five points are exact to 1e-15
    /// even nine of them out, as three are for a 256th, and half of `s²`, the scale of `e^y`, wherever the two terms of the loss compare.
    fn piece(&self, x: f64) -> f64 {
        let width = self.sigma / 16.0;
        if (self.log_odds(x) + self.balance).abs() < 45.0 { width.min(0.5 * self.sigma * self.sigma) } else { width }
    }

    /// `y` of [`crate::loss`].
    fn log_odds(&self, x: f64) -> f64 {
        (x - 0.5) / (self.sigma * self.sigma)
    }

    /// `ln P/Q` with the unit against without it, rising in `x`.
    fn loss(&self, x: f64) -> f64 {
        privacy_loss(self.log_odds(x), self.q)
    }

    fn inverse(&self, loss: f64) -> f64 {
        inverse_loss(loss, self.q) * self.sigma * self.sigma + 0.5
    }
}

/// Two neighbours of the grid, as values of `ln P/Q` with the unit against without it, and how mass is shared between them.
#[derive(Debug)]
struct Cell {
    low: f64,
    high: f64,
    /// `e^low - 1`.
    u_low: f64,
    /// `e^(low-high) - 1`.
    fall: f64,
    direction: Direction,
    rounding: Rounding,
}

impl Cell {
    fn new(low: f64, high: f64, direction: Direction, rounding: Rounding) -> Self {
        Self { low, high, u_low: low.exp_m1(), fall: (low - high).exp_m1(), direction, rounding }
    }

    /// The part of the mass at a loss `l` that goes to the upper end, from `e^(low-l) - 1`.
    ///
    /// Up, both `P` and `Q` keep their masses: `a + b = 1` and `a e^(l-low) + b e^(l-high) = 1` for `Q/P = e^-l`; the other
    /// direction has `P` and `Q`, and so the signs, exchanged. Down, all goes to the smaller loss.
    fn share(&self, fall: f64) -> f64 {
        match (self.rounding, self.direction) {
            (Rounding::Up, Direction::Remove) => fall / self.fall,
            // e^(l-low) - 1 over e^(high-low) - 1.
            (Rounding::Up, Direction::Add) => fall / (1.0 + fall) / (self.fall / (1.0 + self.fall)),
            (Rounding::Down, Direction::Remove) => 0.0,
            (Rounding::Down, Direction::Add) => 1.0,
        }
    }
}
