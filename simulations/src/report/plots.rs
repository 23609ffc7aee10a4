//! Plots: what to draw ([`chart`], [`of_run`], [`of_comparison`]), as shapes ([`scene`]), in two formats.
//!
//! A scene is written as SVG and, with the same coordinates, rasterised to PNG. No plotting library is used: those at
//! hand round coordinates to pixels, set letters without their side bearings, and cannot write what a page needs to
//! follow the reader's dark mode. The font of the PNG is compiled in, so that pictures do not depend on what a machine
//! has installed.

mod chart;
mod font;
mod labels;
mod of_comparison;
mod of_run;
mod palette;
mod png;
mod scale;
mod scene;
mod svg;

use std::path::Path;

use super::ReportError;
use crate::files::write_atomically;
use chart::Chart;

pub(super) use of_comparison::of_comparison;
pub(super) use of_run::{epsilon_by_round, of_run};

/// A plot as SVG, to be put into a page, and what it shows.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    /// Name of its files.
    pub(super) name: &'static str,
    /// What it shows and how to read it.
    pub(super) caption: String,
    /// The picture.
    pub(super) svg: String,
}

/// A chart and how its files and its caption read.
#[derive(Debug, Clone)]
pub(super) struct Plot {
    name: &'static str,
    caption: String,
    chart: Chart,
}

/// Draws plots, writes each as SVG and PNG under `plots/`, and hands back the pictures. A plot without any finite value
/// is left out.
///
/// # Errors
/// A file that cannot be written; a picture that cannot be encoded.
pub(super) fn write(directory: &Path, plots: Vec<Plot>) -> Result<Vec<Figure>, ReportError> {
    let mut figures = Vec::with_capacity(plots.len());
    for Plot { name, caption, chart } in plots {
        let Some(scene) = chart.draw() else { continue };
        let svg = svg::write(&scene);
        write_atomically(&directory.join(format!("plots/{name}.svg")), svg.as_bytes())?;
        let png = png::write(&scene).map_err(|source| ReportError::Plot { name: name.to_owned(), source })?;
        write_atomically(&directory.join(format!("plots/{name}.png")), &png)?;
        figures.push(Figure { name, caption, svg });
    }
    Ok(figures)
}
