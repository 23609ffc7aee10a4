//! The font of the pictures, compiled in: `DejaVu Sans`, which papers know from other plots, cut down to Latin, Greek
//! and a few signs (`data/fonts/LICENCE.txt`).

use std::sync::LazyLock;

use tiny_skia::{Path, PathBuilder, Transform};
use ttf_parser::{Face, GlyphId, OutlineBuilder};

const BYTES: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/fonts/DejaVuSans-subset.ttf"));

static FACE: LazyLock<Option<Face<'static>>> = LazyLock::new(|| Face::parse(BYTES, 0).ok());

/// Fonts for readers of the SVG, who may lack `DejaVu Sans`; the others are no wider.
pub(super) const FAMILIES: &str = "DejaVu Sans, Verdana, Arial, sans-serif";

/// Width of a text in CSS pixels.
pub(super) fn width(text: &str, size: f32) -> f32 {
    let Some(face) = &*FACE else { return 0.0 };
    text.chars().map(|letter| advance(face, glyph(face, letter))).sum::<f32>() * size / em(face)
}

/// Outline of a text that starts at the origin; none for blanks.
pub(super) fn outline(text: &str, size: f32) -> Option<Path> {
    let face = FACE.as_ref()?;
    let mut outline = Outline { path: PathBuilder::new(), scale: size / em(face), pen: 0.0 };
    for letter in text.chars() {
        let glyph = glyph(face, letter);
        face.outline_glyph(glyph, &mut outline);
        outline.pen += advance(face, glyph) * outline.scale;
    }
    outline.path.finish()?.transform(Transform::identity())
}

fn em(face: &Face<'_>) -> f32 {
    f32::from(face.units_per_em())
}

/// Letters that the font lacks become its replacement sign.
fn glyph(face: &Face<'_>, letter: char) -> GlyphId {
    face.glyph_index(letter).or_else(|| face.glyph_index('\u{FFFD}')).unwrap_or_default()
}

fn advance(face: &Face<'_>, glyph: GlyphId) -> f32 {
    face.glyph_hor_advance(glyph).map_or(0.0, f32::from)
}

/// Fonts count y upwards, pictures downwards.
struct Outline {
    path: PathBuilder,
    scale: f32,
    pen: f32,
}

impl Outline {
    fn place(&self, x: f32, y: f32) -> (f32, f32) {
        (self.pen + x * self.scale, -y * self.scale)
    }
}

impl OutlineBuilder for Outline {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.place(x1, y1), self.place(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.place(x1, y1), self.place(x2, y2), self.place(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_is_readable_and_has_the_signs_that_reports_use() {
        let face = FACE.as_ref().expect("the compiled-in font");
        for letter in "Aa09 .,:;()[]=-_/%±×†…–·≤≥äß".chars() {
            assert!(face.glyph_index(letter).is_some(), "{letter}");
        }
    }

    #[test]
    fn wider_texts_are_wider_and_unknown_letters_take_room() {
        assert!(width("mm", 12.0) > width("ii", 12.0));
        assert!(width("漢", 12.0) > 0.0 && outline("漢", 12.0).is_some());
        assert!(outline("  ", 12.0).is_none());
    }
}
