//! What the SQL engine asks of the node about roles.

use std::sync::Arc;

use alluvium_core::meta::access::{Access, AccessCommand, Verifiers};
use async_trait::async_trait;

use super::Secret;
use crate::host::HostError;

/// Roles, as the node keeps them. A host of its own, such as in tests, has the built-in ones.
#[async_trait]
pub trait RoleHost: Send + Sync {
    /// Roles, grants and policies at this moment.
    fn access(&self) -> Arc<Access> {
        Arc::default()
    }

    /// Changes them; answered when the change is agreed.
    async fn change_access(&self, command: AccessCommand) -> Result<(), HostError> {
        let _ = command;
        Err(without_roles())
    }

    /// What a password is to be verified by, with salt of its own.
    async fn verifiers(&self, password: Secret) -> Result<Verifiers, HostError> {
        let _ = password;
        Err(without_roles())
    }
}

fn without_roles() -> HostError {
    HostError::Unavailable { reason: "this node keeps no roles".into() }
}
