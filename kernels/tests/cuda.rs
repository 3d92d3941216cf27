//! CUDA devices: if there is none, or no feature `cuda`, an error says why; if there is one, it is
//! checked.

use proxima_kernels::{Device, Tensor, cuda};

#[test]
fn a_device_works_or_says_why_there_is_none() {
    match cuda::device(0, None) {
        Ok(device) => {
            println!("{:?}", cuda::properties(&device).expect("properties of a device"));
            cuda::check(&device).expect("a device that computes");
            let other = cuda::kernel(&device, "check", "nothing").err().expect("no such kernel");
            assert!(other.to_string().contains("nothing"), "{other}");
            cuda::forget(&device);
            cuda::check(&device).expect("kernels are loaded again");
        }
        Err(error) => {
            let said = error.to_string();
            println!("no CUDA device here: {said}");
            assert!(said.contains("CUDA") || said.contains("NVIDIA"), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(!cuda::is_out_of_memory(&error));
        }
    }
}

#[test]
fn a_device_that_no_machine_has_is_an_error() {
    let error = cuda::device(4096, None).expect_err("no such device");
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}

#[test]
fn a_tensor_of_the_cpu_has_no_address_on_a_device() {
    let tensor = Tensor::new(&[1.0_f32, 2.0], &Device::Cpu).expect("a tensor");
    assert!(cuda::address(&tensor).is_err());
    assert!(cuda::check(&Device::Cpu).is_err());
}
