//! Six ways to see the same image.

use rand::Rng;
use rand_distr::{Distribution, Normal};

/// Height and width of an image.
pub const SIDE: usize = 8;

/// An image of [`SIDE`] rows, from -1 to 1.
pub type Image = [f32; SIDE * SIDE];

/// Standard deviation of the noisy domain: a quarter of the range of values.
const NOISE: f64 = 0.5;
/// Columns by which the shifted domain moves images: more than a stroke's width.
const SHIFT: usize = 3;

/// What a site's scanner does to an image. All but the noisy one lose nothing, so that a well adapted model can be as
/// good on them as on plain images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// As it is.
    Plain,
    /// Turned by a quarter, clockwise.
    Rotated,
    /// Ink and paper exchanged.
    Inverted,
    /// Gaussian noise on every pixel, cut off at the ends of the range.
    Noisy,
    /// Moved to the right; what leaves comes in again on the left.
    Shifted,
    /// Ink and paper exchanged in every second column.
    Striped,
}

impl Domain {
    /// All domains, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Plain, Self::Rotated, Self::Inverted, Self::Noisy, Self::Shifted, Self::Striped];

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Rotated => "rotated",
            Self::Inverted => "inverted",
            Self::Noisy => "noisy",
            Self::Shifted => "shifted",
            Self::Striped => "striped",
        }
    }

    /// The image as this domain shows it. Only the noisy domain draws from `noise`.
    pub fn see(self, image: &Image, noise: &mut impl Rng) -> Image {
        match self {
            Self::Plain => *image,
            Self::Rotated => each_pixel(|row, column| at(image, SIDE - 1 - column, row)),
            Self::Inverted => image.map(|pixel| -pixel),
            Self::Noisy => noisy(image, noise),
            Self::Shifted => each_pixel(|row, column| at(image, row, (column + SIDE - SHIFT) % SIDE)),
            Self::Striped => each_pixel(|row, column| {
                let pixel = at(image, row, column);
                if column % 2 == 1 { -pixel } else { pixel }
            }),
        }
    }
}

fn at(image: &Image, row: usize, column: usize) -> f32 {
    image[row * SIDE + column]
}

fn each_pixel(pixel: impl Fn(usize, usize) -> f32) -> Image {
    std::array::from_fn(|index| pixel(index / SIDE, index % SIDE))
}

fn noisy(image: &Image, noise: &mut impl Rng) -> Image {
    // Cannot fail: the deviation is a positive constant.
    let normal = Normal::new(0.0, NOISE).expect("a positive deviation");
    image.map(|pixel| (pixel + normal.sample(noise) as f32).clamp(-1.0, 1.0))
}

#[cfg(test)]
mod tests {
    use fedlora_adapter::{Purpose, Seed};

    use super::*;

    fn see(domain: Domain, image: &Image) -> Image {
        domain.see(image, &mut Seed(1).run(Purpose::Data))
    }

    fn same(one: &Image, other: &Image) -> bool {
        one.map(f32::to_bits) == other.map(f32::to_bits)
    }

    /// Paper with one dot of ink in row 1, column 6.
    fn dot() -> Image {
        each_pixel(|row, column| if (row, column) == (1, 6) { 1.0 } else { -1.0 })
    }

    #[test]
    fn a_dot_goes_where_each_domain_puts_it() {
        let place = |domain| see(domain, &dot()).iter().position(|pixel| *pixel > 0.0).map(|at| (at / SIDE, at % SIDE));
        assert_eq!(place(Domain::Plain), Some((1, 6)));
        assert_eq!(place(Domain::Rotated), Some((6, 6)));
        assert_eq!(place(Domain::Shifted), Some((1, 1)));
    }

    #[test]
    fn turning_four_times_and_exchanging_ink_twice_change_nothing() {
        let image = each_pixel(|row, column| (row * SIDE + column + 1) as f32 / 64.0);
        assert!(same(&(0..4).fold(image, |image, _| see(Domain::Rotated, &image)), &image));
        for domain in [Domain::Inverted, Domain::Striped] {
            assert!(!same(&see(domain, &image), &image));
            assert!(same(&see(domain, &see(domain, &image)), &image));
        }
    }

    #[test]
    fn noise_stays_in_range_and_comes_from_its_generator() {
        let noisy = see(Domain::Noisy, &dot());
        assert!(noisy.iter().all(|pixel| (-1.0..=1.0).contains(pixel)));
        assert!(!same(&noisy, &dot()));
        assert!(same(&noisy, &see(Domain::Noisy, &dot())));
    }
}
