//! Shapes with places and inks: what both file formats are written from.

use super::palette::{Dash, Ink};

/// A place in CSS pixels, x to the right and y down.
pub(super) type Point = (f32, f32);

/// A picture.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    /// Width in CSS pixels.
    pub(super) width: f32,
    /// Height in CSS pixels.
    pub(super) height: f32,
    /// What it shows, for readers who do not see it.
    pub(super) title: String,
    /// What is drawn, later over earlier.
    pub(super) shapes: Vec<Shape>,
}

/// Something drawn.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A line through points.
    Line { points: Vec<Point>, ink: Ink, width: f32, dash: Dash },
    /// A translucent area within points.
    Area { points: Vec<Point>, ink: Ink },
    /// A filled circle with a rim of paper, so that neighbours stay apart.
    Dot { center: Point, radius: f32, ink: Ink },
    /// A line of text.
    Text { at: Point, text: String, size: f32, anchor: Anchor, ink: Ink },
}

/// Where a text's place is within it; always on the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// At its start.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
    /// In its middle, and the text runs upwards.
    Upright,
}

/// Opacity of an area.
pub(super) const AREA_OPACITY: f32 = 0.16;

/// Width of the rim around dots.
pub(super) const RIM: f32 = 0.8;
