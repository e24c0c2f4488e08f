//! The instruments of Synthesis' tests: a mock of Anthropic's Messages API and a fake claude.
//! Nothing here is needed at run time.

pub mod bench;
pub mod channel_tag;
pub mod directive;
pub mod fake_claude;
pub mod harness;
pub mod hostile_claude;
pub mod mock_model;
pub mod offline_claude;
