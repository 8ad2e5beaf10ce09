kernel void a(global int*x){
#ifdef FP_FAST_FMAF
x[0]=1;
#else
#error nofast
#endif
}
