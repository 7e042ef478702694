#pragma once  // what it declares stands in cuda_on_cpu.h
