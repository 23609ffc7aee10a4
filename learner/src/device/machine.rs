//! What a machine has, and which of it a name means.

use std::sync::OnceLock;

use burn::tensor::Device;

use super::{ChosenDevice, DeviceError, DeviceInfo, DeviceKind, gpu, name::DeviceName, processor};

/// Devices of one machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// In the order in which `auto` asks them.
    pub(super) backends: Vec<Backend>,
}

/// GPUs that one of burn's backends reaches.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    /// None where the backend is not in this build.
    pub(super) gpus: Option<Vec<Gpu>>,
}

/// A GPU that was found.
#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) device: Device,
    pub(super) kind: DeviceKind,
    /// Makes it ready, and says what it is or why it is of no use.
    pub(super) open: fn(&Device) -> Result<Card, String>,
    opened: OnceLock<Result<Card, String>>,
}

/// What an open GPU says of itself.
#[derive(Debug, Clone)]
pub(super) struct Card {
    pub(super) model: String,
    pub(super) memory_bytes: Option<u64>,
}

/// What drivers that compute on the processor call themselves.
const SOFTWARE: [&str; 5] = ["llvmpipe", "lavapipe", "softpipe", "swiftshader", "basic render"];

impl Gpu {
    #[cfg_attr(
        not(any(test, feature = "wgpu", feature = "cuda")),
        expect(dead_code, reason = "builds without a GPU backend find no GPU")
    )]
    pub(super) fn new(device: Device, kind: DeviceKind, open: fn(&Device) -> Result<Card, String>) -> Self {
        Self { device, kind, open, opened: OnceLock::new() }
    }

    fn open(&self) -> &Result<Card, String> {
        self.opened.get_or_init(|| (self.open)(&self.device))
    }

    /// The kind, also of a software device that pretends to be another one.
    fn kind(&self) -> DeviceKind {
        match self.opened.get() {
            Some(Ok(card)) if is_software(&card.model) => DeviceKind::Software,
            _ => self.kind,
        }
    }

    /// Why `auto` does not take it.
    fn unfit(&self) -> Option<String> {
        if self.kind == DeviceKind::Software {
            return Some("is a software device".to_owned());
        }
        match self.open() {
            Ok(card) if is_software(&card.model) => Some(format!("is a software device ({})", card.model)),
            Ok(_) => None,
            Err(reason) => Some(format!("cannot be used ({reason})")),
        }
    }
}

fn is_software(model: &str) -> bool {
    let model = model.to_lowercase();
    SOFTWARE.iter().any(|name| model.contains(name))
}

impl Machine {
    /// The machine that the program runs on, looked at once.
    pub(super) fn this() -> &'static Self {
        static THIS: OnceLock<Machine> = OnceLock::new();
        THIS.get_or_init(|| Self { backends: gpu::backends() })
    }

    pub(super) fn choose(&self, name: DeviceName) -> Result<ChosenDevice, DeviceError> {
        let DeviceName::Gpu { backend, number } = name else {
            return Ok(if name == DeviceName::Auto { self.best() } else { processor() });
        };
        let gpus = self.backends.iter().find(|known| known.name == backend).and_then(|known| known.gpus.as_ref());
        let name = name.to_string();
        let Some(gpus) = gpus else {
            return Err(DeviceError::NotBuilt { name, feature: backend, built: self.built() });
        };
        let Some(gpu) = gpus.get(number) else {
            return Err(DeviceError::NoSuch { name, found: self.found() });
        };
        match gpu.open() {
            Ok(_) => Ok(ChosenDevice { device: gpu.device.clone(), name, warning: None }),
            Err(reason) => Err(DeviceError::Unusable { name, reason: reason.clone() }),
        }
    }

    /// The first GPU that is one and works, cards with memory of their own before others; else the CPU.
    fn best(&self) -> ChosenDevice {
        let mut gpus: Vec<(String, &Gpu)> = self.gpus().collect();
        // Stable: of one kind the first backend's first.
        gpus.sort_by_key(|(_, gpu)| gpu.kind);
        let mut unfit = Vec::new();
        for (name, gpu) in gpus {
            match gpu.unfit() {
                None => return ChosenDevice { device: gpu.device.clone(), name, warning: None },
                Some(why) => unfit.push(format!("{name} {why}")),
            }
        }
        let warning = self.backends.iter().any(|backend| backend.gpus.is_some()).then(|| {
            let why = if unfit.is_empty() { "there is none".to_owned() } else { unfit.join(", ") };
            format!("no GPU to compute on: {why}; computing on the CPU")
        });
        ChosenDevice { warning, ..processor() }
    }

    /// Every device, the CPU first.
    pub(super) fn list(&self) -> Vec<DeviceInfo> {
        let auto = self.best().name;
        let cpu = DeviceInfo {
            name: "cpu".to_owned(),
            kind: DeviceKind::Cpu,
            model: processor::model(),
            memory_bytes: processor::memory_bytes(),
            problem: None,
            auto: false,
        };
        let gpus = self.gpus().map(|(name, gpu)| {
            let (card, problem) = match gpu.open().clone() {
                Ok(card) => (Some(card), None),
                Err(reason) => (None, Some(reason)),
            };
            let memory_bytes = card.as_ref().and_then(|card| card.memory_bytes);
            DeviceInfo {
                name,
                kind: gpu.kind(),
                model: card.map(|card| card.model),
                memory_bytes,
                problem,
                auto: false,
            }
        });
        let with_auto = |info: DeviceInfo| DeviceInfo { auto: info.name == auto, ..info };
        std::iter::once(cpu).chain(gpus).map(with_auto).collect()
    }

    /// Backends that are not in this build.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        self.backends.iter().filter(|backend| backend.gpus.is_none()).map(|backend| backend.name).collect()
    }

    fn built(&self) -> Vec<String> {
        let gpus = self.backends.iter().filter(|backend| backend.gpus.is_some()).map(|backend| backend.name);
        std::iter::once("cpu").chain(gpus).map(ToOwned::to_owned).collect()
    }

    fn found(&self) -> Vec<String> {
        let gpus = self.gpus().map(|(name, gpu)| format!("{name} ({})", gpu.kind.name()));
        std::iter::once("cpu".to_owned()).chain(gpus).collect()
    }

    fn gpus(&self) -> impl Iterator<Item = (String, &Gpu)> {
        let of = |backend: &'static str| move |(number, gpu)| (DeviceName::Gpu { backend, number }.to_string(), gpu);
        self.backends.iter().flat_map(move |backend| backend.gpus.iter().flatten().enumerate().map(of(backend.name)))
    }
}

fn processor() -> ChosenDevice {
    ChosenDevice { device: Device::flex(), name: "cpu".to_owned(), warning: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "stands for functions that can fail")]
    fn works(_: &Device) -> Result<Card, String> {
        Ok(Card { model: "Volcano 9000".to_owned(), memory_bytes: Some(1 << 34) })
    }

    #[expect(clippy::unnecessary_wraps, reason = "stands for functions that can fail")]
    fn pretends(_: &Device) -> Result<Card, String> {
        Ok(Card { model: "LLVMpipe (256 bits)".to_owned(), memory_bytes: None })
    }

    fn fails(_: &Device) -> Result<Card, String> {
        Err("driver too old".to_owned())
    }

    fn machine(cuda: Option<Vec<Gpu>>, wgpu: Option<Vec<Gpu>>) -> Machine {
        Machine { backends: vec![Backend { name: "cuda", gpus: cuda }, Backend { name: "wgpu", gpus: wgpu }] }
    }

    fn gpu(kind: DeviceKind, open: fn(&Device) -> Result<Card, String>) -> Gpu {
        Gpu::new(Device::flex(), kind, open)
    }

    fn choose(machine: &Machine, name: &str) -> Result<ChosenDevice, DeviceError> {
        machine.choose(name.parse()?)
    }

    #[test]
    fn auto_takes_the_first_card_that_works_and_prefers_one_with_memory_of_its_own() {
        use DeviceKind::{DiscreteGpu, IntegratedGpu};
        let wgpu = || Some(vec![gpu(IntegratedGpu, works), gpu(DiscreteGpu, fails), gpu(DiscreteGpu, works)]);
        let auto = |machine: &Machine| choose(machine, "auto").unwrap();
        assert_eq!(auto(&machine(None, wgpu())).name, "wgpu:2");
        assert_eq!(auto(&machine(Some(Vec::new()), wgpu())).name, "wgpu:2");
        assert_eq!(auto(&machine(Some(vec![gpu(DiscreteGpu, works)]), wgpu())).name, "cuda:0");
        assert_eq!(auto(&machine(None, Some(vec![gpu(IntegratedGpu, works)]))).name, "wgpu:0");
        assert_eq!(auto(&machine(None, wgpu())).warning, None);
    }

    #[test]
    fn auto_falls_back_to_the_cpu_and_says_why_in_one_line() {
        let auto = |machine: &Machine| {
            let chosen = choose(machine, "auto").unwrap();
            assert_eq!(chosen.name, "cpu");
            chosen.warning
        };
        assert_eq!(auto(&machine(None, None)), None);
        let none = "no GPU to compute on: there is none; computing on the CPU";
        assert_eq!(auto(&machine(None, Some(Vec::new()))).as_deref(), Some(none));
        let poor = vec![
            gpu(DeviceKind::Software, works),
            gpu(DeviceKind::DiscreteGpu, pretends),
            gpu(DeviceKind::VirtualGpu, fails),
        ];
        let warning = auto(&machine(None, Some(poor))).unwrap();
        for part in ["wgpu:0 is a software device", "wgpu:1 is a software device (LLVMpipe", "wgpu:2 cannot be used"] {
            assert!(warning.contains(part), "{part} is not in {warning}");
        }
        assert!(!warning.contains('\n'));
    }

    #[test]
    fn a_software_device_is_taken_by_name() {
        let machine = machine(None, Some(vec![gpu(DeviceKind::Software, pretends)]));
        assert_eq!(choose(&machine, "wgpu").unwrap().name, "wgpu:0");
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_what_there_is_and_what_to_do() {
        let machine = machine(None, Some(vec![gpu(DeviceKind::VirtualGpu, fails)]));
        let error = |name| choose(&machine, name).unwrap_err().to_string();
        let not_built = error("cuda:0");
        assert!(not_built.contains("for cpu, wgpu only") && not_built.contains("--features cuda"), "{not_built}");
        let absent = error("wgpu:1");
        assert!(absent.contains("no device wgpu:1") && absent.contains("cpu, wgpu:0 (virtual-gpu)"), "{absent}");
        let unusable = error("wgpu:0");
        assert!(unusable.contains("driver too old") && unusable.contains("cpu"), "{unusable}");
    }

    #[test]
    fn a_list_names_what_auto_takes_and_what_is_wrong_with_the_others() {
        let gpus = vec![gpu(DeviceKind::Other, pretends), gpu(DeviceKind::DiscreteGpu, fails)];
        let listed = machine(None, Some(gpus)).list();
        let names: Vec<&str> = listed.iter().map(|info| info.name.as_str()).collect();
        assert_eq!(names, ["cpu", "wgpu:0", "wgpu:1"]);
        assert_eq!(listed.iter().map(|info| info.auto).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(listed[1].kind, DeviceKind::Software);
        assert_eq!(listed[2].problem.as_deref(), Some("driver too old"));
        let one = machine(Some(vec![gpu(DeviceKind::DiscreteGpu, works)]), None).list();
        assert_eq!((one[1].auto, one[1].memory_bytes), (true, Some(1 << 34)));
        assert_eq!(one[1].model.as_deref(), Some("Volcano 9000"));
    }
}
