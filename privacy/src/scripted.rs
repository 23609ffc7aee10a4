//! A generator for tests of what happens at one random word and not at its neighbours.

use std::convert::Infallible;

use rand::TryRng;

/// Random words that were chosen beforehand.
pub(crate) struct Words(pub(crate) Vec<u64>);

impl TryRng for Words {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.remove(0) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.remove(0))
    }

    fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Infallible> {
        unreachable!("only whole words are drawn")
    }
}
