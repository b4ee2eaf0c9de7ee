//! The first admin of a cluster whose callers have to say who they are: made from a file when there
//! is no user, never with a password that anybody could guess.

use std::path::Path;

use alluvium_core::meta::access::{ADMIN, AccessCommand};
use alluvium_core::meta::{MetaCommand, MetaOutcome};
use alluvium_query::access::Secret;
use anyhow::Context;

use crate::access::{Guard, make_verifiers};
use crate::actors::meta::MetaHandle;
use crate::cluster::Cluster;

/// Bytes of the shortest password that is taken: fewer are guessed.
const PASSWORD_BYTES_MIN: usize = 8;

/// Makes the user `admin`, where callers have to say who they are and nobody could.
pub async fn ensure(
    guard: &Guard,
    cluster: &Cluster,
    meta: &MetaHandle,
    file: Option<&Path>,
) -> anyhow::Result<()> {
    if !guard.is_required() || cluster.known().access.has_users() {
        return Ok(());
    }
    let Some(file) = file else {
        anyhow::bail!(
            "authentication is required and there is no user who could log in; write a password \
             into a file that only this process can read, name the file by admin_password_file \
             (ALLUVIUM_ADMIN_PASSWORD_FILE), and start again: it becomes the password of the user \
             \"{ADMIN}\""
        );
    };
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("read the password of the first admin, {}", file.display()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(
        PASSWORD_BYTES_MIN <= password.len(),
        "the password in {} has fewer than {PASSWORD_BYTES_MIN} bytes",
        file.display()
    );
    let verifiers = make_verifiers(Secret::new(password)).await?;
    anyhow::ensure!(verifiers.is_some(), "the password in {} cannot be used", file.display());
    let name = ADMIN.to_owned();
    let alter = AccessCommand::AlterRole { name, login: Some(true), verifiers };
    let outcome = meta.change(MetaCommand::Access(alter)).await?;
    match outcome {
        MetaOutcome::AccessChanged | MetaOutcome::NothingToDo => {
            tracing::info!(target: "audit", user = ADMIN, "audit: first admin made");
            Ok(())
        }
        other => anyhow::bail!("making the first admin led to {other:?}"),
    }
}
