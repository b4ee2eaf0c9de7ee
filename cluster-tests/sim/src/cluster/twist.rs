//! Faults of ours in how a cluster is run, put in on purpose: the simulator must catch each of
//! them. They live in the simulated shell; the core has no switch for wrong behaviour.

/// A way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twist {
    /// A node removes its replica when the catalogue does not want it any more, which is before the
    /// group has agreed on doing without it.
    CatalogueAloneRemoves,
    /// A group moves without learners: new voters begin empty.
    NoLearners,
    /// Who says where a group is does not say as of when, so that who owned it once is believed.
    FormerOwnerBelieved,
    /// A read is answered by the node's own replica as it is.
    OwnerNotAsked,
    /// A directory that asks to join again does so under another token.
    TokenDrawnAgain,
    /// Nobody plans where replicas go.
    NobodyPlans,
    /// Some nodes' catalogues overlook that a group was moved.
    MovedOverlooked,
    /// What waits for the disk goes out when it is written, not when it is synced.
    AckBeforeSync,
    /// Who sent a batch is overlooked, so a retry counts again.
    DuplicateNotRecognised,
    /// A node with an empty disk takes the place of a lost one under the same name.
    IdentityReused,
}

impl Twist {
    /// All of them.
    pub const ALL: [Twist; 10] = [
        Twist::CatalogueAloneRemoves,
        Twist::NoLearners,
        Twist::FormerOwnerBelieved,
        Twist::OwnerNotAsked,
        Twist::TokenDrawnAgain,
        Twist::NobodyPlans,
        Twist::MovedOverlooked,
        Twist::AckBeforeSync,
        Twist::DuplicateNotRecognised,
        Twist::IdentityReused,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Twist::CatalogueAloneRemoves => "catalogue-alone-removes",
            Twist::NoLearners => "no-learners",
            Twist::FormerOwnerBelieved => "former-owner-believed",
            Twist::OwnerNotAsked => "owner-not-asked",
            Twist::TokenDrawnAgain => "token-drawn-again",
            Twist::NobodyPlans => "nobody-plans",
            Twist::MovedOverlooked => "moved-overlooked",
            Twist::AckBeforeSync => "ack-before-sync",
            Twist::DuplicateNotRecognised => "duplicate-not-recognised",
            Twist::IdentityReused => "identity-reused",
        }
    }

    /// The twist of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Twist> {
        Twist::ALL.into_iter().find(|twist| twist.name() == name)
    }
}
