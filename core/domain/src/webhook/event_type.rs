//! The types of events that webhooks can get.

/// The name that selects all event types.
pub const ALL_EVENTS: &str = "*";
/// The type of the event that `POST /webhooks/{id}/test` sends. No webhook selects it.
pub const TEST_EVENT: &str = "webhook.test";

/// A type of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// A code was assigned to a user.
    CouponAssigned,
    /// A code was locked, or its lock renewed.
    CouponLocked,
    /// A lock was released.
    CouponUnlocked,
    /// A lock expired.
    CouponLockExpired,
    /// A code was redeemed.
    CouponRedeemed,
    /// A code was taken back from its holder.
    CouponRevoked,
    /// A redemption was rolled back.
    CouponRolledBack,
    /// A code was voided.
    CouponVoided,
    /// A book was activated.
    BookActivated,
    /// A book was paused.
    BookPaused,
    /// A book was closed.
    BookClosed,
    /// `expiresAt` of an active or paused book has passed.
    BookExpired,
    /// A job succeeded.
    JobSucceeded,
    /// A job failed.
    JobFailed,
    /// A job was cancelled.
    JobCancelled,
    /// The service disabled a webhook.
    WebhookDisabled,
}

impl EventType {
    /// All types.
    pub const ALL: [Self; 16] = [
        Self::CouponAssigned,
        Self::CouponLocked,
        Self::CouponUnlocked,
        Self::CouponLockExpired,
        Self::CouponRedeemed,
        Self::CouponRevoked,
        Self::CouponRolledBack,
        Self::CouponVoided,
        Self::BookActivated,
        Self::BookPaused,
        Self::BookClosed,
        Self::BookExpired,
        Self::JobSucceeded,
        Self::JobFailed,
        Self::JobCancelled,
        Self::WebhookDisabled,
    ];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CouponAssigned => "coupon.assigned",
            Self::CouponLocked => "coupon.locked",
            Self::CouponUnlocked => "coupon.unlocked",
            Self::CouponLockExpired => "coupon.lock_expired",
            Self::CouponRedeemed => "coupon.redeemed",
            Self::CouponRevoked => "coupon.revoked",
            Self::CouponRolledBack => "coupon.rolled_back",
            Self::CouponVoided => "coupon.voided",
            Self::BookActivated => "book.activated",
            Self::BookPaused => "book.paused",
            Self::BookClosed => "book.closed",
            Self::BookExpired => "book.expired",
            Self::JobSucceeded => "job.succeeded",
            Self::JobFailed => "job.failed",
            Self::JobCancelled => "job.cancelled",
            Self::WebhookDisabled => "webhook.disabled",
        }
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The action of the coupon events of this type; see [`ACTIONS`](crate::coupon::state::ACTIONS). None if they are not coupon events.
    pub fn action(self) -> Option<&'static str> {
        match self {
            Self::CouponAssigned => Some("ASSIGN"),
            Self::CouponLocked => Some("LOCK"),
            Self::CouponUnlocked => Some("UNLOCK"),
            Self::CouponLockExpired => Some("EXPIRE"),
            Self::CouponRedeemed => Some("REDEEM"),
            Self::CouponRevoked => Some("REVOKE"),
            Self::CouponRolledBack => Some("ROLLBACK"),
            Self::CouponVoided => Some("VOID"),
            _ => None,
        }
    }

    /// The admin events of this type: the subject with the new status of a created or updated object, or with the action. None if they
    /// are not admin events.
    pub fn admin_change(self) -> Option<&'static str> {
        match self {
            Self::BookActivated => Some("BOOK ACTIVE"),
            Self::BookPaused => Some("BOOK PAUSED"),
            Self::BookClosed => Some("BOOK CLOSED"),
            Self::BookExpired => Some("BOOK EXPIRE"),
            Self::JobSucceeded => Some("JOB SUCCEED"),
            Self::JobFailed => Some("JOB FAIL"),
            Self::JobCancelled => Some("JOB CANCEL"),
            _ => None,
        }
    }

    /// The type of the coupon events with an action.
    pub fn of_action(action: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.action() == Some(action))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coupon::state::ACTIONS;

    #[test]
    fn each_action_of_a_coupon_but_the_change_of_its_limits_has_a_type_and_each_name_is_read_back() {
        assert_eq!(EventType::of_action("UPDATE"), None);
        for action in ACTIONS.into_iter().filter(|action| *action != "UPDATE") {
            assert_eq!(EventType::of_action(action).and_then(EventType::action), Some(action));
        }
        for kind in EventType::ALL {
            assert_eq!(EventType::parse(kind.as_str()), Some(kind));
            assert!(kind.action().is_none() || kind.admin_change().is_none());
        }
        assert_eq!(EventType::parse(TEST_EVENT), None);
    }
}
