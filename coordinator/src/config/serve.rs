//! How a coordinator serves: addresses, state, security and limits, as a file of its own. What a run does is in the run's
//! configuration.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use fedlora_privacy::calibrate;
use serde::{Deserialize, Serialize};

use super::{ConfigError, explain, read_table};
use crate::{
    PrivacyLimit,
    grpc::{RateLimits, Settings},
};

/// Configuration of `fedlora-coordinator serve`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ServeConfig {
    /// Address and port for clients and operators (gRPC).
    pub listen: SocketAddr,
    /// Address and port for `/healthz`, `/readyz` and `/metrics` (HTTP); without TLS, so keep it inside.
    pub http_listen: SocketAddr,
    /// Folder with the event log, the blobs, the identities and the keys of `pki init`; nothing else needs a backup.
    pub state_dir: PathBuf,
    /// Clear text instead of TLS; only on loopback addresses, or behind a proxy on the same machine.
    pub insecure: bool,
    /// How long open calls may go on after the signal to stop.
    pub drain_timeout_ms: u64,
    /// TLS.
    pub tls: TlsConfig,
    /// Limits on calls.
    pub limits: RateLimits,
    /// Times and bounds of the service for clients.
    pub federation: Settings,
    /// What all runs together may release about one client; runs without `[central-privacy]` are then refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacyLimit>,
}

/// How connections are secured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TlsConfig {
    /// How clients prove who they are.
    pub client_auth: ClientAuth,
    /// How long a TLS handshake may take, and the first byte after it.
    pub handshake_timeout_ms: u64,
    /// Handshakes at a time.
    pub max_handshakes: usize,
    /// Handshakes at a time from one address.
    pub max_handshakes_per_address: usize,
}

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// By a certificate of the coordinator's own authority.
    #[default]
    Certificate,
    /// By an access token, where TLS ends before the coordinator.
    Bearer,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8443)),
            http_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8480)),
            state_dir: PathBuf::from("state"),
            insecure: false,
            drain_timeout_ms: 10_000,
            tls: TlsConfig::default(),
            limits: RateLimits::default(),
            federation: Settings::default(),
            privacy: None,
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            client_auth: ClientAuth::default(),
            handshake_timeout_ms: 10_000,
            max_handshakes: 1024,
            max_handshakes_per_address: 256,
        }
    }
}

impl ServeConfig {
    /// The configuration in a file, with `key=value` overrides.
    ///
    /// # Errors
    /// A file that cannot be read; an unknown key, with the nearest one; a value that makes no sense.
    pub fn read(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        Self::from_table(read_table(path, overrides)?)
    }

    /// The configuration in a table.
    ///
    /// # Errors
    /// As [`ServeConfig::read`].
    pub fn from_table(table: toml::Table) -> Result<Self, ConfigError> {
        let config: Self = toml::Value::Table(table).try_into().map_err(|error| explain(&error, &[]))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first key whose value makes no sense.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.insecure && !self.listen.ip().is_loopback() {
            let reason = format!("is true, but listen = \"{}\" can be reached from other machines", self.listen);
            return Err(ConfigError::invalid("insecure", reason));
        }
        for (key, value) in [
            ("tls.handshake-timeout-ms", self.tls.handshake_timeout_ms),
            ("tls.max-handshakes", self.tls.max_handshakes as u64),
            ("tls.max-handshakes-per-address", self.tls.max_handshakes_per_address as u64),
        ] {
            if value == 0 {
                return Err(ConfigError::invalid(key, "must be at least 1"));
            }
        }
        self.federation.validate()?;
        self.privacy.as_ref().map_or(Ok(()), |limit| {
            let budget = calibrate::Budget::new(limit.epsilon_limit, limit.delta);
            budget.map(|_| ()).map_err(|error| ConfigError::invalid("privacy", error.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServeConfig, ConfigError> {
        ServeConfig::from_table(text.parse().expect("valid TOML"))
    }

    #[test]
    fn the_sample_says_every_default() {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/coordinator.toml");
        assert_eq!(ServeConfig::read(&sample, &[]).expect("valid"), ServeConfig::default());
        let written = toml::Table::try_from(ServeConfig::default()).expect("writable");
        assert_eq!(read_table(&sample, &[]).expect("readable"), written, "the sample has every key");
    }

    #[test]
    fn clear_text_stays_on_the_machine() {
        parse("insecure = true\nlisten = '127.0.0.1:1'").expect("loopback");
        parse("insecure = true\nlisten = '[::1]:1'").expect("loopback");
        let error = parse("insecure = true\nlisten = '0.0.0.0:1'").expect_err("every address").to_string();
        assert_eq!(error, "insecure is true, but listen = \"0.0.0.0:1\" can be reached from other machines");
    }

    #[test]
    fn unknown_keys_are_named_with_the_nearest() {
        let nearest = |text| match parse(text).expect_err("unknown") {
            ConfigError::UnknownKey { nearest: Some(nearest), .. } => nearest,
            error => panic!("{error}"),
        };
        assert_eq!(nearest("listn = '127.0.0.1:1'"), "listen");
        assert_eq!(nearest("[federation]\nheartbeat-interval = 1"), "heartbeat-interval-ms");
        assert_eq!(nearest("[limits]\nclient-bursts = 1"), "client-burst");
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        for (text, key) in [
            ("[privacy]\nepsilon-limit = -1.0\ndelta = 1e-5", "privacy"),
            ("[privacy]\nepsilon-limit = 8.0\ndelta = 1.0", "privacy"),
            ("[federation]\nheartbeat-interval-ms = 0", "heartbeat-interval-ms"),
            ("[federation]\nmax-factor-distance = nan", "max-factor-distance"),
            ("[federation]\nmax-factor-distance = 0.0", "max-factor-distance"),
            ("[tls]\nmax-handshakes = 0", "tls.max-handshakes"),
        ] {
            let error = parse(text).expect_err("no sense").to_string();
            assert!(error.starts_with(key), "{error}");
        }
        parse("[limits]\nclient-burst = 0").expect_err("nobody could call");
    }
}
