//! How much memory one call may take.

use wasmtime::{Error, ResourceLimiter, Result};

/// Elements that one table may have: as many as a slot of the pool holds. A table costs the daemon 8 bytes an element.
pub(super) const TABLE_ELEMENTS: usize = 20_000;

/// Counts the linear memories of one call together; what goes over the limit is refused, as `memory.grow` allows, and remembered.
#[derive(Debug)]
pub(super) struct Bounds {
    limit_bytes: usize,
    used_bytes: usize,
    /// What the growth under way adds.
    adding_bytes: usize,
    denied: bool,
}

impl Bounds {
    /// So much memory, in MiB.
    pub(super) fn new(memory_mb: u32) -> Self {
        let limit_bytes = usize::try_from(u64::from(memory_mb) << 20).unwrap_or(usize::MAX);
        Self { limit_bytes, used_bytes: 0, adding_bytes: 0, denied: false }
    }

    /// Whether more was asked for than there is.
    pub(super) fn denied(&self) -> bool {
        self.denied
    }

    /// What was refused before concerns the next call no more.
    pub(super) fn begin(&mut self) {
        self.denied = false;
    }

    /// Memory of the call: it never shrinks.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

impl ResourceLimiter for Bounds {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool> {
        let adding = desired.saturating_sub(current);
        let fits = self.used_bytes.checked_add(adding).is_some_and(|all| all <= self.limit_bytes);
        if fits {
            self.adding_bytes = adding;
            self.used_bytes += adding;
        } else {
            self.denied = true;
        }
        Ok(fits)
    }

    fn memory_grow_failed(&mut self, _error: Error) -> Result<()> {
        self.used_bytes = self.used_bytes.saturating_sub(std::mem::take(&mut self.adding_bytes));
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool> {
        let fits = desired <= TABLE_ELEMENTS;
        self.denied |= !fits;
        Ok(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_count_together_and_a_refusal_is_remembered() {
        let mut bounds = Bounds::new(64);
        assert!(bounds.memory_growing(0, 40 << 20, None).unwrap());
        assert!(!bounds.memory_growing(0, 25 << 20, None).unwrap());
        assert!(bounds.denied());
        assert!(bounds.memory_growing(0, 24 << 20, None).unwrap());
        assert_eq!(bounds.used_bytes(), 64 << 20);
    }

    #[test]
    fn what_could_not_be_had_is_not_counted() {
        let mut bounds = Bounds::new(64);
        assert!(bounds.memory_growing(0, 64 << 20, None).unwrap());
        bounds.memory_grow_failed(Error::msg("none left")).unwrap();
        assert_eq!(bounds.used_bytes(), 0);
    }

    #[test]
    fn tables_end_where_the_pools_do() {
        let mut bounds = Bounds::new(64);
        assert!(bounds.table_growing(0, TABLE_ELEMENTS, None).unwrap());
        assert!(!bounds.table_growing(0, TABLE_ELEMENTS + 1, None).unwrap());
    }
}
