//! Coins that fall with an exactly given probability, from words of random bits and integer arithmetic alone.

use rand::Rng;

/// True with probability `numerator / denominator`, exactly. Wants `numerator ≤ denominator`, `denominator > 0`.
///
/// A uniform real number `u` is compared with the ratio, 64 bits at a time: with `w` its first word and `u'` the rest,
/// `u < n/d` if and only if `u' < (n·2⁶⁴ − w·d)/d`. All but one in `2⁶⁴` throws are decided by the first word.
pub(super) fn ratio(mut numerator: u64, denominator: u64, rng: &mut impl Rng) -> bool {
    loop {
        let target = u128::from(numerator) << 64;
        let floor = u128::from(rng.next_u64()) * u128::from(denominator);
        if floor >= target {
            return false;
        }
        let rest = target - floor;
        if rest >= u128::from(denominator) {
            return true;
        }
        // The rest is below the denominator, so it fits.
        numerator = rest as u64;
    }
}

/// True with probability `exp(−numerator / denominator)`, exactly. Wants `numerator ≤ denominator`, `denominator > 0`.
///
/// Canonne, Kamath, Steinke, arXiv 2004.00010, Algorithm 1: throw coins of probability `γ/1`, `γ/2`, `γ/3`, … until one
/// fails; the answer is whether the failing one was an odd one.
pub(super) fn decay(numerator: u64, denominator: u64, rng: &mut impl Rng) -> bool {
    odd_failure(1, |k| part(numerator, denominator, k, rng))
}

/// True with probability `exp(−1)`: as [`decay`], where the first coin cannot fail.
pub(super) fn decay_by_one(rng: &mut impl Rng) -> bool {
    odd_failure(2, |k| ratio(1, k, rng))
}

/// True with probability `exp(−times)`.
pub(super) fn decay_by(times: u64, rng: &mut impl Rng) -> bool {
    (0..times).all(|_| decay_by_one(rng))
}

fn odd_failure(first: u64, mut coin: impl FnMut(u64) -> bool) -> bool {
    let mut k = first;
    while coin(k) {
        k += 1;
    }
    k % 2 == 1
}

/// True with probability `numerator / (denominator · k)`.
fn part(numerator: u64, denominator: u64, k: u64, rng: &mut impl Rng) -> bool {
    match denominator.checked_mul(k) {
        Some(product) => ratio(numerator, product, rng),
        // Two coins where one would need more than 64 bits.
        None => ratio(numerator, denominator, rng) && ratio(1, k, rng),
    }
}

/// A whole number from 0 to `limit − 1`, all equally likely, exactly. Wants `limit > 0`.
///
/// Lemire, Fast Random Integer Generation in an Interval, arXiv 1805.10941, Algorithm 5.
pub(super) fn below(limit: u64, rng: &mut impl Rng) -> u64 {
    let draw = |rng: &mut _| u128::from(Rng::next_u64(rng)) * u128::from(limit);
    let mut product = draw(rng);
    if (product as u64) < limit {
        let uneven = limit.wrapping_neg() % limit;
        while (product as u64) < uneven {
            product = draw(rng);
        }
    }
    (product >> 64) as u64
}
