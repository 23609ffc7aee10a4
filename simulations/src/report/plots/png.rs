//! A scene as PNG, two pixels to a CSS pixel.

use std::error::Error;

use tiny_skia::{Color, FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};

use super::{
    font,
    palette::{Dash, Ink},
    scene::{AREA_OPACITY, Anchor, Point, RIM, Scene, Shape},
};

/// Sharp on screens of high resolution and in print.
const RESOLUTION: f32 = 2.0;

/// The file.
///
/// # Errors
/// A picture of no size, or one that does not fit memory.
pub(super) fn write(scene: &Scene) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    let (width, height) = ((scene.width * RESOLUTION) as u32, (scene.height * RESOLUTION) as u32);
    let mut picture =
        Pixmap::new(width, height).ok_or_else(|| format!("{width} x {height} is no size for a picture"))?;
    picture.fill(color(Ink::Paper, 1.0));
    for shape in &scene.shapes {
        draw(&mut picture, shape);
    }
    Ok(picture.encode_png()?)
}

fn draw(picture: &mut Pixmap, shape: &Shape) {
    match shape {
        Shape::Line { points, ink, width, dash } => {
            if let Some(path) = polyline(points, false) {
                stroke(picture, &path, *ink, *width, *dash);
            }
        }
        Shape::Area { points, ink } => {
            if let Some(path) = polyline(points, true) {
                fill(picture, &path, *ink, AREA_OPACITY, Transform::identity());
            }
        }
        Shape::Dot { center: (x, y), radius, ink } => {
            if let Some(path) = PathBuilder::from_circle(*x, *y, *radius) {
                fill(picture, &path, *ink, 1.0, Transform::identity());
                stroke(picture, &path, Ink::Paper, RIM, Dash::Solid);
            }
        }
        Shape::Text { at: (x, y), text, size, anchor, ink } => {
            if let Some(path) = font::outline(text, *size) {
                let back = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle | Anchor::Upright => font::width(text, *size) / 2.0,
                    Anchor::End => font::width(text, *size),
                };
                let turn = if *anchor == Anchor::Upright { -90.0 } else { 0.0 };
                let place = Transform::from_translate(*x, *y).pre_rotate(turn).pre_translate(-back, 0.0);
                fill(picture, &path, *ink, 1.0, place);
            }
        }
    }
}

fn polyline(points: &[Point], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    let (&(x, y), rest) = points.split_first()?;
    path.move_to(x, y);
    for &(x, y) in rest {
        path.line_to(x, y);
    }
    if closed {
        path.close();
    }
    path.finish()
}

fn fill(picture: &mut Pixmap, path: &Path, ink: Ink, opacity: f32, place: Transform) {
    let place = place.post_scale(RESOLUTION, RESOLUTION);
    picture.fill_path(path, &paint(ink, opacity), FillRule::Winding, place, None);
}

fn stroke(picture: &mut Pixmap, path: &Path, ink: Ink, width: f32, dash: Dash) {
    let dash = dash.pattern().and_then(|pattern| StrokeDash::new(pattern.to_vec(), 0.0));
    let stroke = Stroke { width, line_cap: LineCap::Butt, line_join: LineJoin::Round, dash, ..Stroke::default() };
    picture.stroke_path(path, &paint(ink, 1.0), &stroke, Transform::from_scale(RESOLUTION, RESOLUTION), None);
}

fn paint(ink: Ink, opacity: f32) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color(color(ink, opacity));
    paint.anti_alias = true;
    paint
}

fn color(ink: Ink, opacity: f32) -> Color {
    let [red, green, blue] = ink.rgb();
    Color::from_rgba8(red, green, blue, (opacity * 255.0) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(width: f32, shapes: Vec<Shape>) -> Scene {
        Scene { width, height: 20.0, title: String::new(), shapes }
    }

    #[test]
    fn a_picture_without_size_is_an_error() {
        assert!(write(&scene(0.0, Vec::new())).is_err());
    }

    #[test]
    fn every_kind_of_shape_leaves_its_ink() {
        let points = vec![(2.0, 2.0), (18.0, 2.0), (18.0, 18.0)];
        let (ink, center) = (Ink::Series(0), (10.0, 10.0));
        let text = |anchor| Shape::Text { at: center, text: "m".to_owned(), size: 12.0, anchor, ink };
        let shapes = [
            Shape::Line { points: points.clone(), ink, width: 2.0, dash: Dash::Dashed },
            Shape::Area { points, ink },
            Shape::Dot { center, radius: 3.0, ink },
            text(Anchor::Middle),
            text(Anchor::Upright),
        ];
        let empty = write(&scene(20.0, Vec::new())).expect("a picture");
        for shape in shapes {
            let picture = Pixmap::decode_png(&write(&scene(20.0, vec![shape.clone()])).expect("a picture"));
            let picture = picture.expect("what was written");
            assert_eq!((picture.width(), picture.height()), (40, 40), "two pixels to one");
            let blank = Pixmap::decode_png(&empty).expect("what was written");
            let changed = picture.pixels().iter().zip(blank.pixels()).filter(|(drawn, blank)| drawn != blank).count();
            // The smallest, the letter, has strokes of about 2 by 14 pixels.
            assert!(changed > 25, "{shape:?} changed {changed} pixels");
        }
    }
}
