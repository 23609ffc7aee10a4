//! What is done about a device that is out of memory: the same work again, in smaller passes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{Device, DeviceError, LearnerError, panics};

/// How many examples of a client go through the model in one pass at most.
///
/// What was asked for, until memory is too short for it; what then fits holds for all that comes after.
#[derive(Debug)]
pub(super) struct PassSize(AtomicUsize);

impl PassSize {
    /// Passes of at most this many examples; 0 for no limit.
    pub(super) fn new(examples: usize) -> Self {
        Self(AtomicUsize::new(if examples == 0 { usize::MAX } else { examples }))
    }

    /// The limit, at least 1.
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Does `work` on so many examples in passes of the size that it is given. Where the device lacks memory, it is done
    /// again with half the size, down to a single example; `work` must change nothing before it succeeds.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] where one example is too much, and whatever else `work` fails with.
    pub(super) fn fit<T>(
        &self,
        examples: usize,
        device: &Device,
        mut work: impl FnMut(usize) -> Result<T, LearnerError>,
    ) -> Result<T, LearnerError> {
        loop {
            let size = self.get().min(examples);
            match guarded(|| work(self.get())) {
                Err(LearnerError::Device(DeviceError::OutOfMemory(_))) if size > 1 => {
                    device.memory_cleanup();
                    self.0.fetch_min(size.div_ceil(2), Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
    }
}

/// A panic for want of memory as an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, LearnerError>) -> Result<T, LearnerError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panics::message(panic.as_ref());
        if DeviceError::is_out_of_memory(&message) {
            Err(DeviceError::OutOfMemory(message).into())
        } else {
            resume_unwind(panic)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device;

    /// What `fit` tries for 10 examples on a device that has memory for so many, and what it ends with.
    fn tried(size: &PassSize, memory: usize, fails: fn() -> LearnerError) -> (Vec<usize>, Result<(), LearnerError>) {
        let mut tried = Vec::new();
        let outcome = size.fit(10, &device("cpu").unwrap(), |most| {
            tried.push(most.min(10));
            if most.min(10) > memory { Err(fails()) } else { Ok(()) }
        });
        (tried, outcome)
    }

    fn short() -> LearnerError {
        DeviceError::failed("can't allocate buffer of size: 4096".to_owned()).into()
    }

    #[test]
    fn passes_are_halved_until_they_fit_and_stay_so() {
        let size = PassSize::new(0);
        assert_eq!(tried(&size, 3, short).0, [10, 5, 3]);
        assert_eq!((tried(&size, 3, short).0, size.get()), (vec![3], 3));
        let (sizes, outcome) = tried(&PassSize::new(4), 0, short);
        assert_eq!(sizes, [4, 2, 1]);
        assert!(matches!(outcome, Err(LearnerError::Device(DeviceError::OutOfMemory(_)))), "{outcome:?}");
    }

    #[test]
    fn panics_for_want_of_memory_count_and_other_failures_are_none_of_its_business() {
        assert_eq!(tried(&PassSize::new(0), 5, || panic!("out of device memory allocating 7 bytes")).0, [10, 5]);
        let (sizes, outcome) = tried(&PassSize::new(0), 5, || DeviceError::failed("lost".to_owned()).into());
        assert!(sizes == [10] && matches!(outcome, Err(LearnerError::Device(DeviceError::Failed(_)))), "{outcome:?}");
        let other = catch_unwind(|| tried(&PassSize::new(0), 5, || panic!("a bug")));
        assert_eq!(panics::message(other.unwrap_err().as_ref()), "a bug");
    }
}
