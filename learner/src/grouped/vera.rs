//! `VeRA`'s trained vectors as factors: `diag(lambda_d)·A_f` and `diag(lambda_b)·B_f` (arXiv 2310.11454, eq. 2).

use burn::tensor::{Device, Tensor, TensorData};
use fedlora_adapter::{AdapterKind, AdapterSpec, ModuleSpec, Tensor as HostTensor, VeraProjections};

/// The frozen projections on a device.
#[derive(Debug)]
pub(super) struct Projections {
    /// `r x max(d_in)`.
    a: Tensor<2>,
    /// `max(d_out) x r`.
    b: Tensor<2>,
}

impl Projections {
    /// The projections of a `VeRA` specification; none for other kinds.
    pub(super) fn new(spec: &AdapterSpec, device: &Device) -> Option<Self> {
        if spec.kind != AdapterKind::Vera {
            return None;
        }
        let host = VeraProjections::new(spec);
        Some(Self { a: upload(&host.a, device), b: upload(&host.b, device) })
    }

    /// Factors `[G, r, d_in]` and `[G, d_out, r]` of a module from its vectors `[G, r, 1]` and `[G, d_out, 1]`.
    pub(super) fn apply(
        &self,
        module: &ModuleSpec,
        lambda_d: Tensor<3>,
        lambda_b: Tensor<3>,
    ) -> (Tensor<3>, Tensor<3>) {
        let [rank, _] = self.a.dims();
        let a = self.a.clone().slice([0..rank, 0..module.d_in]).unsqueeze::<3>();
        let b = self.b.clone().slice([0..module.d_out, 0..rank]).unsqueeze::<3>();
        (lambda_d * a, lambda_b * b)
    }
}

fn upload(tensor: &HostTensor, device: &Device) -> Tensor<2> {
    let (rows, columns) = (tensor.as_ref().rows(), tensor.as_ref().columns());
    Tensor::from_data(TensorData::new(tensor.values().to_vec(), [rows, columns]), device)
}
