//! docs/configuration.md against the table of keys. Spec: DPS-SERVE-8.
