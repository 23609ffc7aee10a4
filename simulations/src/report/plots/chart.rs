//! Lines or dots over two axes, each line named at its end.

use super::{
    font, labels,
    palette::{Dash, Ink},
    scale::{Axis, Scale},
    scene::{Anchor, Point, Scene, Shape},
};
use crate::report::format::shortened;

/// Width in CSS pixels; two fit beside each other on a wide page, one across a column of a paper.
const WIDTH: f32 = 640.0;
/// Height in CSS pixels, more where many labels need it.
const HEIGHT: f32 = 380.0;
/// Size of titles and labels.
const SIZE: f32 = 12.0;
/// Size of numbers on axes.
const SMALL: f32 = 11.0;
/// Height of one label at the end of a line.
const LABEL: f32 = 15.0;
/// Longest name at the end of a line, in characters.
const LONGEST: usize = 36;
/// Points of a line beyond which more make no visible difference, over all lines of a chart.
const POINTS: usize = 4000;
/// Up to so many points, each of few lines shows its points as dots.
const DOTTED: usize = 25;
/// Dots on more lines than these hide each other.
const FEW: usize = 4;
/// A line that ends farther from the edge than this is named by its look alone: a stroke to its name would look like data.
const NEAR: f32 = 16.0;

/// A chart before it is drawn.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    /// What it shows.
    pub(super) title: String,
    /// To the right.
    pub(super) x: Axis,
    /// Upwards.
    pub(super) y: Axis,
    /// What is drawn, later over earlier.
    pub(super) series: Vec<Series>,
}

/// One named line.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Its name, empty for none.
    pub(super) name: String,
    /// Its colour.
    pub(super) ink: Ink,
    /// Its strokes.
    pub(super) dash: Dash,
    /// What it goes through.
    pub(super) form: Form,
}

/// What a series is drawn as.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// A line, with a band between the smallest and the largest value where that says something.
    Line(Vec<Sample>),
    /// Separate dots.
    Dots(Vec<Sample>),
    /// One value, whatever x.
    Level(f64),
}

/// A point of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// To the right.
    pub(super) x: f64,
    /// Upwards.
    pub(super) y: f64,
    /// Smallest and largest value of several runs.
    pub(super) range: (f64, f64),
}

impl Sample {
    /// A value of a single run.
    pub(super) fn new(x: f64, y: f64) -> Self {
        Self { x, y, range: (y, y) }
    }

    fn finite(&self) -> bool {
        [self.x, self.y, self.range.0, self.range.1].iter().all(|value| value.is_finite())
    }
}

impl Series {
    fn samples(&self) -> &[Sample] {
        match &self.form {
            Form::Line(samples) | Form::Dots(samples) => samples,
            Form::Level(_) => &[],
        }
    }

    fn heights(&self) -> Vec<f64> {
        match self.form {
            Form::Level(value) => vec![value],
            _ => self.samples().iter().flat_map(|sample| [sample.range.0, sample.range.1]).collect(),
        }
    }

    /// Without what cannot be drawn, and without what nobody could see.
    fn thinned(&self, most: usize) -> Self {
        let finite: Vec<Sample> = self.samples().iter().copied().filter(Sample::finite).collect();
        let every = finite.len().div_ceil(most).max(1);
        let last = finite.len().saturating_sub(1);
        let kept = finite.into_iter().enumerate().filter(|(index, _)| index % every == 0 || *index == last);
        let samples = kept.map(|(_, sample)| sample).collect();
        let form = match self.form {
            Form::Line(_) => Form::Line(samples),
            Form::Dots(_) => Form::Dots(samples),
            Form::Level(value) => Form::Level(value),
        };
        Self { form, ..self.clone() }
    }
}

impl Chart {
    /// The picture; none where there is no finite value.
    pub(super) fn draw(&self) -> Option<Scene> {
        let most = (POINTS / self.series.len().max(1)).max(50);
        let series: Vec<Series> = self.series.iter().map(|series| series.thinned(most)).collect();
        let horizontal = series.iter().flat_map(|series| series.samples().iter().map(|sample| sample.x));
        let x = self.x.scale(horizontal, 7)?;
        let y = self.y.scale(series.iter().flat_map(Series::heights), 5)?;
        let frame = Frame::new(&series, x, y);
        let mut shapes = Vec::new();
        self.axes(&frame, &mut shapes);
        for line in &series {
            frame.band(line, &mut shapes);
        }
        for line in &series {
            frame.line(line, series.len() <= FEW, &mut shapes);
        }
        frame.names(&series, &mut shapes);
        Some(Scene { width: WIDTH, height: frame.bottom + 48.0, title: self.title.clone(), shapes })
    }

    fn axes(&self, frame: &Frame, shapes: &mut Vec<Shape>) {
        let text = |at, text: String, size, anchor, ink| Shape::Text { at, text, size, anchor, ink };
        let line = |points, ink| Shape::Line { points, ink, width: 1.0, dash: Dash::Solid };
        for &tick in &frame.y.ticks {
            let y = frame.vertical(tick);
            shapes.push(line(vec![(frame.left, y), (frame.right, y)], Ink::Grid));
            shapes.push(text((frame.left - 8.0, y + 4.0), frame.y.label(tick), SMALL, Anchor::End, Ink::Axis));
        }
        for &tick in &frame.x.ticks {
            let x = frame.horizontal(tick);
            shapes.push(line(vec![(x, frame.bottom), (x, frame.bottom + 5.0)], Ink::Axis));
            let at = (x, frame.bottom + 18.0);
            shapes.push(text(at, frame.x.label(tick), SMALL, Anchor::Middle, Ink::Axis));
        }
        shapes.push(line(vec![(frame.left, frame.bottom), (frame.right, frame.bottom)], Ink::Axis));
        let (middle, center) = (f32::midpoint(frame.left, frame.right), f32::midpoint(frame.top, frame.bottom));
        let below = (middle, frame.bottom + 38.0);
        shapes.push(text(below, self.x.title.clone(), SIZE, Anchor::Middle, Ink::Text));
        shapes.push(text((16.0, center), self.y.title.clone(), SIZE, Anchor::Upright, Ink::Text));
        shapes.push(text((frame.left, 20.0), self.title.clone(), SIZE + 1.0, Anchor::Start, Ink::Text));
    }
}

/// Where the axes lie.
struct Frame {
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
    x: Scale,
    y: Scale,
}

impl Frame {
    fn new(series: &[Series], x: Scale, y: Scale) -> Self {
        let names = series.iter().filter(|series| !series.name.is_empty());
        let label = names.clone().map(|series| font::width(&shortened(&series.name, LONGEST), SMALL));
        let labels = label.fold(0.0, f32::max);
        let numbers = y.ticks.iter().map(|tick| font::width(&y.label(*tick), SMALL)).fold(0.0, f32::max);
        let right = WIDTH - if labels > 0.0 { labels + 44.0 } else { 24.0 };
        let height = (HEIGHT - 84.0).max(LABEL * names.count() as f32);
        Self { left: 40.0 + numbers, right, top: 36.0, bottom: 36.0 + height, x, y }
    }

    fn horizontal(&self, value: f64) -> f32 {
        self.left + self.x.place(value) * (self.right - self.left)
    }

    fn vertical(&self, value: f64) -> f32 {
        self.bottom - self.y.place(value) * (self.bottom - self.top)
    }

    fn point(&self, x: f64, y: f64) -> Point {
        (self.horizontal(x), self.vertical(y))
    }

    fn band(&self, series: &Series, shapes: &mut Vec<Shape>) {
        let Form::Line(samples) = &series.form else { return };
        if samples.iter().all(|sample| sample.range.1 <= sample.range.0) {
            return;
        }
        let above = samples.iter().map(|sample| self.point(sample.x, sample.range.1));
        let below = samples.iter().rev().map(|sample| self.point(sample.x, sample.range.0));
        shapes.push(Shape::Area { points: above.chain(below).collect(), ink: series.ink });
    }

    fn line(&self, series: &Series, dots: bool, shapes: &mut Vec<Shape>) {
        let (ink, dash) = (series.ink, series.dash);
        let points: Vec<Point> = match &series.form {
            Form::Level(value) => [self.left, self.right].map(|x| (x, self.vertical(*value))).to_vec(),
            _ => series.samples().iter().map(|sample| self.point(sample.x, sample.y)).collect(),
        };
        let dotted = match series.form {
            Form::Level(_) => false,
            Form::Line(_) => points.len() == 1 || (dots && points.len() <= DOTTED),
            Form::Dots(_) => true,
        };
        if !matches!(series.form, Form::Dots(_)) {
            shapes.push(Shape::Line { points: points.clone(), ink, width: 1.8, dash });
        }
        if dotted {
            shapes.extend(points.into_iter().map(|center| Shape::Dot { center, radius: 3.2, ink }));
        }
    }

    /// A name beside the end of every line, with a stroke of the line's own look.
    fn names(&self, series: &[Series], shapes: &mut Vec<Shape>) {
        let end = |series: &Series| match &series.form {
            Form::Level(value) => Some((self.right, self.vertical(*value))),
            _ => series.samples().last().map(|last| self.point(last.x, last.y)),
        };
        let named = series.iter().filter(|series| !series.name.is_empty());
        let ends: Vec<(&Series, Point)> = named.filter_map(|series| Some((series, end(series)?))).collect();
        let wishes: Vec<f32> = ends.iter().map(|(_, (_, y))| *y).collect();
        let places = labels::spread(&wishes, LABEL, self.top, self.bottom);
        for ((series, from), y) in ends.into_iter().zip(places) {
            let lead = (from.0 + NEAR > self.right).then_some((from.0 + 4.0, from.1));
            let stroke = [(self.right + 12.0, y), (self.right + 30.0, y)];
            let points = lead.into_iter().chain(stroke).collect();
            shapes.push(Shape::Line { points, ink: series.ink, width: 1.2, dash: series.dash });
            let (at, text) = ((self.right + 34.0, y + 4.0), shortened(&series.name, LONGEST));
            shapes.push(Shape::Text { at, text, size: SMALL, anchor: Anchor::Start, ink: Ink::Text });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::measure::Score;

    fn chart(samples: Vec<Sample>) -> Chart {
        let form = Form::Line(samples);
        let series = Series { name: "line".to_owned(), ink: Ink::Series(0), dash: Dash::Solid, form };
        Chart { title: String::new(), x: Axis::rounds(), y: Axis::score(Score::Accuracy), series: vec![series] }
    }

    #[test]
    fn values_that_are_not_finite_are_left_out() {
        assert!(chart(vec![Sample::new(1.0, f64::NAN)]).draw().is_none());
        let scene = chart([0.1, f64::INFINITY, 0.3].map(|y| Sample::new(y, y)).to_vec()).draw().expect("two values");
        let dots = scene.shapes.iter().filter(|shape| matches!(shape, Shape::Dot { .. })).count();
        assert_eq!(dots, 2);
    }

    #[test]
    fn long_lines_are_thinned_and_keep_their_ends() {
        let samples = (0..100_000).map(|round| Sample::new(f64::from(round), 0.5)).collect();
        let thinned = chart(samples).series[0].thinned(POINTS);
        let kept = thinned.samples();
        assert!(kept.len() <= POINTS + 1, "{}", kept.len());
        assert_eq!([kept[0].x, kept[kept.len() - 1].x].map(|x| x as u32), [0, 99_999]);
    }
}
