//! From a model's name to where and how it is asked: entries of the plan and of the person who runs it, providers' own places,
//! fallbacks in a row. Pure.
//!
//! A plan may come from anybody, and what it says about models happens outside of any cage: it chooses hosts that are told
//! what workers see, variables whose values are sent there, programs that print keys. So a plan's entry reaches its provider's
//! own place with the provider's own key and nothing else; for all else, this machine included, a person has to say so.

use std::collections::BTreeSet;
use std::time::Duration;

use swarm_plans::models::Origin;
use swarm_plans::{KeySource, Model, Models, PriceList, Provider};
use swarm_protocol::chat::Dialect;

use crate::model::budget::{CacheLife, NanoUsd, Prices};
use crate::settings::PlanModels;

/// How long a model may be silent, where nobody says otherwise.
const IDLE_DEFAULT: Duration = Duration::from_secs(300);
/// Models in a row, the first included.
const CHAIN_MAX: usize = 8;

/// A model that can be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// `provider/model`.
    pub name: String,
    /// Whose API.
    pub provider: Provider,
    /// Its wire format.
    pub dialect: Dialect,
    /// The model as its provider names it.
    pub model: String,
    /// Where the API is, without a slash at the end.
    pub base_url: String,
    /// Where the key comes from; `None` sends none.
    pub key: Option<KeySource>,
    /// What it costs; `None` is unknown.
    pub prices: Option<Prices>,
    /// Tokens that fit into a request and its answer.
    pub context: Option<u32>,
    /// Tokens of an answer, at most.
    pub output_max: Option<u32>,
    /// How long it may be silent.
    pub idle: Duration,
}

/// Why a run may not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// A plan asks for what only a person may.
    #[error("[models.{name}] of the plan {what}")]
    Untrusted {
        /// The entry.
        name: String,
        /// What it does, for people.
        what: String,
    },
    /// Something names a model that is not described, or fallbacks lead back.
    #[error("{0}")]
    Mistake(String),
}

/// Every model that a run may ask.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    models: Models,
}

impl Catalog {
    /// Of linked models.
    ///
    /// # Errors
    /// [`CatalogError::Untrusted`].
    pub fn new(models: Models, plans: PlanModels) -> Result<Self, CatalogError> {
        if plans == PlanModels::Bounded {
            for (name, model) in models.entries.iter().filter(|(_, model)| model.origin == Origin::Plan) {
                if let Some(what) = oversteps(model) {
                    return Err(CatalogError::Untrusted { name: name.clone(), what });
                }
            }
        }
        Ok(Catalog { models })
    }

    /// The model of a name and those that are asked in its place, in order; empty when nothing answers to it.
    pub fn chain(&self, name: &str) -> Vec<Endpoint> {
        let (mut open, mut chain) = (vec![name.to_owned()], Vec::<Endpoint>::new());
        while let Some(name) = open.pop().filter(|_| chain.len() < CHAIN_MAX) {
            let Some(model) = self.models.get(&name) else { continue };
            open.extend(model.fallbacks.iter().rev().map(|used| used.name.clone()));
            let endpoint = endpoint(&model);
            if !chain.contains(&endpoint) {
                chain.push(endpoint);
            }
        }
        chain
    }

    /// The variables that hold keys of these models and of those asked in their place: they stay outside of every cage.
    pub fn key_variables<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let chains = names.into_iter().flat_map(|name| self.chain(name));
        let sources = chains.filter_map(|endpoint| endpoint.key);
        let variable = |source| match source {
            KeySource::Env(name) => Some(name),
            KeySource::Command(_) => None,
        };
        sources.filter_map(variable).collect()
    }

    /// What to write for a name that nothing answers to.
    pub fn advice(&self, name: &str) -> String {
        self.models.advice(name)
    }
}

/// What of a plan's entry only a person may ask for.
fn oversteps(model: &Model) -> Option<String> {
    let own = model.base_url.as_deref().is_none_or(|url| url == model.provider.base_url());
    match (&model.key, &model.base_url) {
        (Some(KeySource::Command(argv)), _) => {
            Some(format!("runs `{}` outside of any cage, for a key", argv.first().map_or("", String::as_str)))
        }
        (Some(KeySource::Env(name)), _) if Some(name.as_str()) != model.provider.key_variable() => {
            Some(format!("sends what ${name} holds"))
        }
        (Some(KeySource::Env(name)), Some(url)) if !own => Some(format!("sends what ${name} holds to {url}")),
        // This machine is no exception: a worker without a network would reach what listens there.
        (None, Some(url)) if !own => Some(format!("sends what workers see to {url}")),
        _ => None,
    }
}

fn endpoint(model: &Model) -> Endpoint {
    let provider = model.provider;
    let own_key = || provider.key_variable().filter(|_| model.base_url.is_none());
    Endpoint {
        name: format!("{}/{}", provider.name(), model.model),
        provider,
        dialect: match provider {
            Provider::Anthropic => Dialect::Anthropic,
            Provider::Openai | Provider::Openrouter => Dialect::OpenaiChat,
            Provider::OpenaiResponses => Dialect::OpenaiResponses,
            Provider::Gemini => Dialect::Gemini,
            Provider::Ollama => Dialect::Ollama,
        },
        model: model.model.clone(),
        base_url: model.base_url.clone().unwrap_or_else(|| provider.base_url().to_owned()),
        key: model.key.clone().or_else(|| own_key().map(|name| KeySource::Env(name.to_owned()))),
        prices: model.prices.as_ref().map(prices),
        context: model.context,
        output_max: model.output_max,
        idle: model.idle_timeout.unwrap_or(IDLE_DEFAULT),
    }
}

fn prices(list: &PriceList) -> Prices {
    // A millionth of a dollar a token is a thousand billionths.
    let nano = |usd: f64| NanoUsd::from_usd(usd / 1e6).map_or(u64::MAX, |price| price.0);
    Prices {
        input: nano(list.input),
        output: nano(list.output),
        cache_read: nano(list.cache_read.unwrap_or(list.input)),
        cache_write: nano(list.cache_write.unwrap_or(list.input)),
        // Source: Anthropic, "Prompt caching", pricing.
        cache_write_long: nano(list.cache_write_1h.unwrap_or(2.0 * list.input)),
        cache_life: CacheLife::Usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(config: &str, origin: Origin) -> Models {
        let (mut user, diagnostics) = swarm_plans::models::user_config(config, 0);
        assert_eq!(diagnostics, []);
        user.models.values_mut().for_each(|model| model.origin = origin);
        Models { entries: user.models }
    }

    fn entry(rest: &str) -> String {
        format!("[models.m]\nprovider = 'openai'\nmodel = 'x'\n{rest}\n")
    }

    #[test]
    fn a_plan_reaches_its_providers_own_place_and_no_other() {
        let check = |rest: &str, expected: Option<&str>| {
            let found = Catalog::new(models(&entry(rest), Origin::Plan), PlanModels::Bounded).err();
            let what = found.map(|error| error.to_string());
            let expected = expected.map(|what| format!("[models.m] of the plan {what}"));
            assert_eq!(what, expected, "{rest}");
            assert!(Catalog::new(models(&entry(rest), Origin::Plan), PlanModels::Trusted).is_ok());
            assert!(Catalog::new(models(&entry(rest), Origin::User), PlanModels::Bounded).is_ok());
        };
        check("", None);
        check("key = { env = 'OPENAI_API_KEY' }", None);
        check("base-url = 'https://api.openai.com/v1'", None);
        check("base-url = 'http://127.0.0.1:8080/v1'", Some("sends what workers see to http://127.0.0.1:8080/v1"));
        check("base-url = 'http://[::1]:8080/v1'", Some("sends what workers see to http://[::1]:8080/v1"));
        check("base-url = 'https://evil.example'", Some("sends what workers see to https://evil.example"));
        check(
            "base-url = 'http://127.0.0.1.evil.example'",
            Some("sends what workers see to http://127.0.0.1.evil.example"),
        );
        check("key = { env = 'AWS_SECRET' }", Some("sends what $AWS_SECRET holds"));
        check("key = { command = ['sh'] }", Some("runs `sh` outside of any cage, for a key"));
        check(
            "base-url = 'http://localhost:1'\nkey = { env = 'OPENAI_API_KEY' }",
            Some("sends what $OPENAI_API_KEY holds to http://localhost:1"),
        );
    }

    #[test]
    fn a_providers_key_goes_to_its_own_place_only() {
        let catalog = |rest: &str| Catalog::new(models(&entry(rest), Origin::User), PlanModels::Bounded).unwrap();
        let own = &catalog("").chain("m")[0];
        assert_eq!(own.key, Some(KeySource::Env("OPENAI_API_KEY".to_owned())));
        assert_eq!(catalog("base-url = 'https://proxy.example'").chain("m")[0].key, None);
    }

    #[test]
    fn fallbacks_stand_in_a_row_each_once() {
        let one = |name: &str, next: &str| {
            format!("[models.{name}]\nprovider = 'ollama'\nmodel = '{name}'\nfallbacks = [{next}]\n")
        };
        let text = [one("a", "'b', 'gemini/g'"), one("b", "'c'"), one("c", "'gemini/g'")].concat();
        let catalog = Catalog::new(models(&text, Origin::User), PlanModels::Bounded).unwrap();
        let names: Vec<String> = catalog.chain("a").into_iter().map(|endpoint| endpoint.name).collect();
        assert_eq!(names, ["ollama/a", "ollama/b", "ollama/c", "gemini/g"]);
        assert_eq!(catalog.chain("nobody"), []);
    }

    #[test]
    fn prices_are_kept_exactly() {
        let catalog = Catalog::new(
            models(&entry("prices = { input = 3, output = 15.0, cache-read = 0.3 }"), Origin::User),
            PlanModels::Bounded,
        );
        let prices = catalog.unwrap().chain("m")[0].prices;
        let (cache_read, cache_write, cache_write_long) = (300, 3000, 6000);
        let cache = Prices {
            input: 3000,
            output: 15_000,
            cache_read,
            cache_write,
            cache_write_long,
            cache_life: CacheLife::Usual,
        };
        assert_eq!(prices, Some(cache));
    }
}
