//! From pictures of any size to the pixels that a model expects, as Hugging Face image processors make them: resize,
//! centre crop, rescale, normalise.

mod image;
mod resize;
mod settings;

use std::path::Path;

use crate::{LearnerError, data::DataError};

pub use image::Image;
use resize::Filter;
use settings::Settings;

/// `preprocessor_config.json` of a model's directory.
pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";

/// Makes pictures into a model's pixels.
///
/// Grey pictures become three equal channels where the model has three; coloured ones become grey by ITU-R 601 where
/// it has one. Resizing is Pillow's, rows first, with a filter as wide as the reduction asks for and rounded to whole
/// levels; `torchvision` rounds otherwise, and differs by about a level.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessor {
    channels: usize,
    /// Height and width of what the model reads.
    side: usize,
    resize: Option<(Scale, Filter)>,
    crops: bool,
    /// For each channel the value of every level.
    levels: Vec<Levels>,
}

/// What each of the 256 levels of a channel becomes.
pub(crate) type Levels = [f32; 256];

/// What pictures are resized to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// This height and width, whatever that does to the proportions.
    Exact(usize, usize),
    /// The shorter side; proportions stay.
    ShorterSide(usize),
}

impl ImageProcessor {
    /// The processor of a model of square images: as `preprocessor_config.json` says, or as timm's `pretrained_cfg` in
    /// `config.json` does. With neither, pictures are resized to the model's size by the bilinear filter, and levels
    /// 0 to 255 become values from -1 to 1, for grey and for colours: the defaults of `ViTImageProcessor`.
    ///
    /// # Errors
    /// A file that cannot be read or asks for something else than what is described here, or for another size than the
    /// model's.
    pub fn from_directory(directory: &Path, channels: usize, side: usize) -> Result<Self, LearnerError> {
        let (file, settings) = Settings::of(directory, side)?;
        settings.processor(&file, channels, side)
    }

    /// The defaults, for images of this size.
    #[must_use]
    pub fn plain(channels: usize, side: usize) -> Self {
        Settings::plain(side).assembled(channels, side)
    }

    /// The content of a `preprocessor_config.json` that says what [`ImageProcessor::plain`] does.
    #[must_use]
    pub fn plain_file(channels: usize, side: usize) -> String {
        settings::plain_file(channels, side)
    }

    /// The picture as the model's levels, `[channels, side, side]`; `file` is where it comes from.
    ///
    /// # Errors
    /// A picture of another size than the model's where nothing is resized.
    pub fn pixels(&self, picture: &Image, file: &Path) -> Result<Vec<u8>, DataError> {
        let mut image = picture.with_channels(self.channels);
        if let Some((scale, filter)) = self.resize {
            let (height, width) = scale.of(image.height(), image.width());
            image = image.resized(height, width, filter);
        }
        let found = (image.height(), image.width());
        let wanted = (self.side, self.side);
        if self.crops && found.0 >= self.side && found.1 >= self.side {
            image = image.centre(self.side);
        } else if found != wanted {
            return Err(DataError::ImageSize { file: file.into(), expected: wanted, found });
        }
        Ok(image.planes())
    }

    /// What the levels of each channel become.
    pub(crate) fn levels(&self) -> &[Levels] {
        &self.levels
    }
}

impl Scale {
    /// Height and width of what a picture becomes; the longer side is rounded down, as `torchvision` does.
    fn of(self, height: usize, width: usize) -> (usize, usize) {
        let longer = |side: usize, longer: usize, shorter: usize| (side * longer / shorter.max(1)).max(1);
        match self {
            Self::Exact(height, width) => (height, width),
            Self::ShorterSide(side) if height <= width => (side, longer(side, width, height)),
            Self::ShorterSide(side) => (longer(side, height, width), side),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_side_decides_and_the_longer_one_is_rounded_down() {
        assert_eq!(Scale::ShorterSide(10).of(20, 33), (10, 16));
        assert_eq!(Scale::ShorterSide(10).of(33, 20), (16, 10));
        assert_eq!(Scale::Exact(4, 5).of(33, 20), (4, 5));
    }

    #[test]
    fn without_a_file_levels_go_from_minus_one_to_one() {
        let processor = ImageProcessor::plain(1, 2);
        let levels = processor.levels()[0];
        assert_eq!((levels[0], levels[255]), (-1.0, 1.0));
        let picture = Image::new(1, 2, 2, vec![0, 255, 10, 20]).unwrap();
        assert_eq!(processor.pixels(&picture, Path::new("a.png")).unwrap(), [0, 255, 10, 20]);
    }
}
