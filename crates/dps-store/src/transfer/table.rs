//! Every table that is copied, column by column. Spec: DPS-STORE-40.
//!
//! Both sides have the same tables; where a column has another name in SQLite, or another shape, it is said here. A test compares this
//! with the tables as their migrations make them, so that no later one is forgotten.

/// A table of both stores.
pub(crate) struct CopiedTable {
    pub(crate) name: &'static str,
    /// How many of its columns name a row; they stand first, and are text where the table has secrets.
    pub(crate) key: usize,
    pub(crate) columns: &'static [Column],
}

/// A column of both stores.
pub(crate) struct Column {
    /// Its name in PostgreSQL.
    pub(crate) name: &'static str,
    /// Its name in SQLite.
    pub(crate) source: &'static str,
    /// NULL in PostgreSQL where that column of SQLite is NULL, whatever stands here.
    pub(crate) set_with: Option<&'static str>,
    pub(crate) kind: Kind,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// Text that somebody else wrote. PostgreSQL takes no NUL in a text, so another character stands for it.
    Prose,
    /// Texts: in SQLite a JSON array.
    Texts,
    Bytes,
    Integer,
    /// In SQLite 0 or 1.
    Boolean,
    /// In SQLite 16 bytes.
    Uuid,
    /// A sealed value.
    Secret(Secret),
}

/// Which secret of a row a sealed value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secret {
    /// The row's own.
    Own,
    /// The same, empty where the row has none.
    OwnOrEmpty,
    /// The URL of its webhook.
    Webhook,
}

impl CopiedTable {
    /// The associated data of a sealed value in a row with this key. It is the same in both stores. Spec: DPS-STORE-6.
    pub(crate) fn row_key<'k>(&self, key: impl Iterator<Item = &'k str>, secret: Secret) -> String {
        let mut row_key = self.name.replace('_', "-");
        let webhook = (secret == Secret::Webhook).then_some("webhook");
        for part in key.chain(webhook) {
            row_key.push('/');
            row_key.push_str(part);
        }
        row_key
    }
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, source: name, set_with: None, kind }
}

const fn text(name: &'static str) -> Column {
    column(name, Kind::Text)
}

const fn prose(name: &'static str) -> Column {
    column(name, Kind::Prose)
}

const fn texts(name: &'static str) -> Column {
    column(name, Kind::Texts)
}

const fn bytes(name: &'static str) -> Column {
    column(name, Kind::Bytes)
}

const fn integer(name: &'static str) -> Column {
    column(name, Kind::Integer)
}

const fn boolean(name: &'static str) -> Column {
    column(name, Kind::Boolean)
}

const fn uuid(name: &'static str) -> Column {
    column(name, Kind::Uuid)
}

const fn secret(name: &'static str, secret: Secret) -> Column {
    column(name, Kind::Secret(secret))
}

/// In the order in which they are copied: what most depends on comes first, and what there is most of last.
pub(crate) const TABLES: &[CopiedTable] = &[
    CopiedTable {
        name: "instance",
        key: 1,
        columns: &[
            text("id_scope"),
            text("id_scope_spelling"),
            integer("number"),
            secret("sealed_secret", Secret::Own),
            text("etag"),
            integer("created_at"),
            integer("updated_at"),
            texts("service_hosts"),
            text("allocation_policy"),
            text("claim_across_groups"),
            text("when_source_unavailable"),
            boolean("passes_over_unhealthy_hubs"),
            boolean("allow_v1_leaf"),
            boolean("allow_v1_self_signed_anchor"),
            text("allow_ca_leaf"),
            boolean("enforce_anchor_expiry"),
            boolean("is_deleted"),
        ],
    },
    CopiedTable {
        name: "linked_hub",
        key: 2,
        columns: &[
            text("id_scope"),
            text("hub"),
            text("hub_spelling"),
            integer("position"),
            text("kind"),
            integer("allocation_weight"),
            boolean("applies_policy"),
            texts("networks"),
            boolean("is_draining"),
            secret("sealed_connection_string", Secret::Own),
        ],
    },
    CopiedTable {
        name: "shared_access_policy",
        key: 2,
        columns: &[
            text("id_scope"),
            text("policy"),
            text("spelling"),
            integer("position"),
            texts("rights"),
            secret("sealed_keys", Secret::Own),
        ],
    },
    CopiedTable {
        name: "ca_certificate",
        key: 2,
        columns: &[
            text("id_scope"),
            text("name"),
            text("name_spelling"),
            text("etag"),
            integer("created_at"),
            integer("updated_at"),
            bytes("certificate"),
            boolean("is_verified"),
            text("verification_code"),
        ],
    },
    CopiedTable { name: "ca_certificate_version", key: 1, columns: &[text("id_scope"), integer("version")] },
    CopiedTable {
        name: "enrollment_group",
        key: 2,
        columns: &[
            text("id_scope"),
            text("enrollment_group_id"),
            text("enrollment_group_id_spelling"),
            text("etag"),
            integer("created_at"),
            integer("updated_at"),
            text("registration_id_prefix"),
            text("attestation"),
            secret("sealed_keys", Secret::Own),
            bytes("primary_certificate"),
            bytes("secondary_certificate"),
            text("primary_ca"),
            text("primary_ca_spelling"),
            text("secondary_ca"),
            text("secondary_ca_spelling"),
            text("provisioning_status"),
            text("allocation_policy"),
            texts("hubs"),
            text("initial_twin"),
            boolean("iot_edge"),
            boolean("update_hub_assignment"),
            boolean("migrate_device_data"),
            text("other_members"),
            secret("sealed_webhook_url", Secret::Webhook),
            text("webhook_api_version"),
        ],
    },
    CopiedTable {
        name: "enrollment_group_anchor",
        key: 3,
        columns: &[text("id_scope"), text("anchor"), text("enrollment_group_id")],
    },
    CopiedTable {
        name: "enrollment_group_version",
        key: 1,
        columns: &[text("id_scope"), integer("version")],
    },
    CopiedTable {
        name: "clean_up",
        key: 3,
        columns: &[
            text("id_scope"),
            text("hub"),
            text("device_id"),
            text("hub_spelling"),
            uuid("guid"),
            text("registration_id"),
            integer("ordered_at"),
            integer("confirm_at"),
            text("peer"),
            integer("tries"),
            integer("due_at"),
            prose("problem"),
        ],
    },
    CopiedTable {
        name: "audit",
        key: 1,
        columns: &[
            text("id_scope"),
            integer("number"),
            integer("at"),
            text("policy"),
            text("address"),
            text("tracking_id"),
            text("action"),
            text("subject_kind"),
            text("subject"),
            text("spelling"),
            text("etag"),
        ],
    },
    CopiedTable {
        name: "individual_enrollment",
        key: 2,
        columns: &[
            text("id_scope"),
            text("registration_id"),
            text("registration_id_spelling"),
            text("etag"),
            integer("created_at"),
            integer("updated_at"),
            text("device_id"),
            text("attestation"),
            secret("sealed_keys", Secret::Own),
            bytes("endorsement_key"),
            bytes("primary_certificate"),
            bytes("secondary_certificate"),
            text("primary_ca"),
            text("primary_ca_spelling"),
            text("secondary_ca"),
            text("secondary_ca_spelling"),
            bytes("primary_thumbprint"),
            bytes("secondary_thumbprint"),
            text("provisioning_status"),
            text("allocation_policy"),
            texts("hubs"),
            text("initial_twin"),
            boolean("iot_edge"),
            boolean("update_hub_assignment"),
            boolean("migrate_device_data"),
            text("other_members"),
            secret("sealed_webhook_url", Secret::Webhook),
            text("webhook_api_version"),
        ],
    },
    CopiedTable {
        name: "registration",
        key: 2,
        columns: &[
            text("id_scope"),
            text("registration_id"),
            text("registration_id_spelling"),
            text("etag"),
            integer("created_at"),
            integer("updated_at"),
            text("entry_kind"),
            text("entry_id"),
            text("entry_id_spelling"),
            uuid("operation_guid"),
            integer("operation_began_at"),
            bytes("operation_storage_root_key"),
            text("payload"),
            integer("strays_until"),
            text("state"),
            text("substatus"),
            text("failure"),
            integer("failure_status"),
            prose("failure_said"),
            text("hub"),
            text("device_id"),
            text("derived_spelling"),
            bytes("thumbprint"),
            bytes("storage_root_key"),
            text("target_hub"),
            text("target_device_id"),
            text("target_derived_spelling"),
            bytes("target_thumbprint"),
            bytes("target_storage_root_key"),
            text("waiting_kind"),
            Column { source: "waiting_host", ..text("waiting_peer") },
            integer("waiting_due_at"),
            integer("waiting_tries"),
            // SQLite has a number where nothing waits, too.
            Column { set_with: Some("waiting_kind"), ..boolean("waiting_is_leased") },
            text("waiting_payload"),
            bytes("waiting_certificate"),
            boolean("waiting_predates"),
            boolean("waiting_takes_along"),
            boolean("waiting_iot_edge"),
            text("waiting_initial_twin"),
            integer("waiting_since"),
            integer("waiting_unanswered_at"),
        ],
    },
    CopiedTable {
        name: "hub_device",
        key: 3,
        columns: &[
            text("id_scope"),
            text("hub"),
            text("device_id"),
            text("hub_spelling"),
            text("registration_id"),
            secret("sealed_keys", Secret::OwnOrEmpty),
            bytes("primary_thumbprint"),
            bytes("secondary_thumbprint"),
            boolean("iot_edge"),
            text("twin"),
            text("status"),
            integer("created_at"),
            integer("updated_at"),
        ],
    },
];

/// Tables of PostgreSQL that have nothing of a store in SQLite: the version of the tables, and rows that are held for a turn.
#[cfg(test)]
pub(crate) const OF_POSTGRES_ALONE: [&str; 2] = ["store", "turn"];
