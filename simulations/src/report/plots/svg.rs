//! A scene as SVG. Colours are plain attributes: a page's style sheet may override them, other programs need not.

use super::{
    font,
    palette::{Dash, Ink},
    scene::{AREA_OPACITY, Anchor, Point, RIM, Scene, Shape},
};
use crate::report::format::{escape, push};

/// The document, without an XML declaration, so that it can stand in a page too.
pub(super) fn write(scene: &Scene) -> String {
    let (width, height, title) = (scene.width, scene.height, escape(&scene.title));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\" font-family=\"{}\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"{}\"/>\n",
        font::FAMILIES,
        Ink::Paper.css(),
    );
    for shape in &scene.shapes {
        write_shape(&mut text, shape);
    }
    text.push_str("</svg>\n");
    text
}

fn write_shape(text: &mut String, shape: &Shape) {
    match shape {
        Shape::Line { points, ink, width, dash } => {
            push(text, format_args!("<path d=\"{}\" fill=\"none\" stroke=\"{}\"", path(points), ink.css()));
            push(text, format_args!(" stroke-width=\"{width}\" stroke-linejoin=\"round\"{}/>\n", dashes(*dash)));
        }
        Shape::Area { points, ink } => {
            let (path, ink) = (path(points), ink.css());
            push(text, format_args!("<path d=\"{path}Z\" fill=\"{ink}\" fill-opacity=\"{AREA_OPACITY}\"/>\n"));
        }
        Shape::Dot { center: (x, y), radius, ink } => {
            let (x, y, ink, paper) = (short(*x), short(*y), ink.css(), Ink::Paper.css());
            push(text, format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{ink}\" stroke=\"{paper}\""));
            push(text, format_args!(" stroke-width=\"{RIM}\"/>\n"));
        }
        Shape::Text { at: (x, y), text: words, size, anchor, ink } => {
            let (x, y, ink, words) = (short(*x), short(*y), ink.css(), escape(words));
            let (anchor, turn) = match anchor {
                Anchor::Start => ("start", String::new()),
                Anchor::Middle => ("middle", String::new()),
                Anchor::End => ("end", String::new()),
                Anchor::Upright => ("middle", format!(" transform=\"rotate(-90 {x} {y})\"")),
            };
            push(text, format_args!("<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{anchor}\""));
            push(text, format_args!(" fill=\"{ink}\"{turn}>{words}</text>\n"));
        }
    }
}

fn dashes(dash: Dash) -> String {
    dash.pattern().map(|[stroke, gap]| format!(" stroke-dasharray=\"{stroke} {gap}\"")).unwrap_or_default()
}

fn path(points: &[Point]) -> String {
    let mut path = String::with_capacity(12 * points.len());
    for (index, (x, y)) in points.iter().enumerate() {
        push(&mut path, format_args!("{}{} {}", if index == 0 { 'M' } else { 'L' }, short(*x), short(*y)));
    }
    path
}

/// A tenth of a pixel is finer than anyone sees.
fn short(value: f32) -> f32 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_names_stays_text() {
        let label = "<script>alert('x')</script>".to_owned();
        let text =
            Shape::Text { at: (1.04, 2.0), text: label.clone(), size: 11.0, anchor: Anchor::Start, ink: Ink::Text };
        let svg = write(&Scene { width: 10.0, height: 10.0, title: label, shapes: vec![text] });
        assert!(!svg.contains("<script") && svg.matches("&lt;script&gt;").count() == 2, "{svg}");
        assert!(svg.contains("x=\"1\" y=\"2\""), "places are short: {svg}");
    }
}
