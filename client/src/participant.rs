//! One client's side of a round: what it starts from, what it sends, what it keeps.

use std::{collections::BTreeMap, sync::Arc};

use fedlora_adapter::{
    Adapter, AdapterError, AdapterUpdate, ClientId, Directive, HeadPolicy, LoraFactors, Side, Tensor, names,
};

use crate::Kept;

/// A client, with what it keeps between rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Participant {
    id: ClientId,
    kept: Kept,
}

impl Participant {
    /// A client and what it kept so far.
    #[must_use]
    pub fn new(id: ClientId, kept: Kept) -> Self {
        Self { id, kept }
    }

    /// The client's number.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// What it keeps, to be stored.
    #[must_use]
    pub fn into_kept(self) -> Kept {
        self.kept
    }

    /// The adapter that training starts from, which is also the client's personal model: downloaded tensors from the
    /// server, the others as this client left them. What it never trained is at its common initial value, which the
    /// global adapter still carries because the server never changes what it is not sent.
    ///
    /// # Errors
    /// Kept tensors that do not fit the adapter's specification.
    pub fn adapter(&self, directive: Directive, global: &Adapter) -> Result<Adapter, AdapterError> {
        if self.kept.tensors.is_empty() {
            return Ok(global.clone());
        }
        let own = |name: String, global: &Tensor| self.kept.tensors.get(&name).unwrap_or(global).clone();
        let kind = global.spec().kind;
        let mut modules = BTreeMap::new();
        for (name, factors) in global.modules() {
            let side = |side| {
                let global = factors.side(side);
                if directive.download.contains(side) {
                    global.clone()
                } else {
                    own(names::factor(kind, name, side), global)
                }
            };
            modules.insert(name.clone(), LoraFactors { a: side(Side::A), b: side(Side::B) });
        }
        let personal = directive.head == HeadPolicy::Personal;
        let head = global
            .head()
            .iter()
            .map(|(name, tensor)| {
                let tensor = if personal { own(names::extra(name), tensor) } else { tensor.clone() };
                (name.clone(), tensor)
            })
            .collect();
        Adapter::new(Arc::clone(global.spec()), modules, head)
    }

    /// Keeps what was trained and is not the server's, and selects what is sent.
    pub fn finish(&mut self, directive: Directive, trained: &Adapter) -> AdapterUpdate {
        let spec = trained.spec();
        let (kind, own) = (spec.kind, directive.of_kind(spec.kind));
        for side in [Side::A, Side::B] {
            if own.train.contains(side) && !directive.download.contains(side) {
                let factors = trained.modules().iter();
                let named = factors.map(|(name, pair)| (names::factor(kind, name, side), pair.side(side).clone()));
                self.kept.tensors.extend(named);
            }
        }
        if directive.head == HeadPolicy::Personal {
            let head = trained.head().iter().filter(|(name, _)| !spec.is_constant(name));
            self.kept.tensors.extend(head.map(|(name, tensor)| (names::extra(name), tensor.clone())));
        }
        AdapterUpdate::select(trained, directive)
    }
}
